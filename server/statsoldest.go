package server

import (
	"sync"
	"time"

	"github.com/rafka-mq/rafka/partition"
)

// oldestTimes remembers when the first records of partitions were appended. A log does not know that after a restart,
// because it does not read old segments.
type oldestTimes struct {
	mu    sync.Mutex // guards known; held while the disk is read, so that a second scrape waits for the first
	known map[*partition.Partition]oldestTime
}

type oldestTime struct {
	first uint64 // offset of the record
	at    time.Time
}

// maxOldestReads bounds the reads of one scrape from the disk. The next scrape reads the others.
const maxOldestReads = 256

// fill completes a survey. It may wait for the disk.
func (o *oldestTimes) fill(s *survey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, reads := map[*partition.Partition]oldestTime{}, 0
	for i := range s.topics {
		for _, p := range s.topics[i].unknown {
			t, ok := o.known[p]
			if first := p.First(); !ok || t.first != first {
				if reads++; reads > maxOldestReads {
					continue
				}
				t = oldestTime{first, p.AppendTimeCold(first)}
			}
			known[p] = t
			s.log.add(logSurvey{oldest: t.at})
		}
	}
	o.known = known
}
