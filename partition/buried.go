package partition

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// buried finds dead letters that an earlier burial published and did not mark. nil finds none.
type buried struct {
	ends map[*Partition]uint64 // of dead-letter topics: what is behind was published by this burial
}

// maxSetBack is how far the wall clock may have been set back between the death of a message and its burial
// before a crash. A clock that was wrong by a time zone is set back by hours.
const maxSetBack = 3 * time.Hour

// among returns the offsets of those dead letters of p's that are in their topic already. They were
// published behind the moment at which they died, so that only the end of the topic is read: what came in
// since then, and in maxSetBack before.
func (b *buried) among(p *Partition, target *Topic, queue string, dead []group.Dead) (there map[uint64]bool, err error) {
	if b == nil {
		return nil, nil
	}
	since := int64(math.MaxInt64)
	asked := make(map[uint64]*group.Dead, len(dead))
	for i := range dead {
		since = min(since, nowMs(dead[i].Last.Add(-maxSetBack)))
		asked[dead[i].Offset] = &dead[i]
	}
	there = map[uint64]bool{}
	for _, to := range target.Partitions() {
		if to.Err() != nil {
			continue
		}
		if _, known := b.ends[to]; !known {
			b.ends[to] = to.Next()
		}
		err := to.eachRecord(since, b.ends[to], func(rec *wire.Record) {
			d := asked[deadOffset(rec.Headers)]
			if d != nil && bytes.HasPrefix(rec.Headers, p.deadHeaders(queue, d)) {
				there[d.Offset] = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return there, nil
}

// deadOffset returns where a dead letter was in its partition, and what no offset is for other records.
func deadOffset(h wire.Headers) uint64 {
	v, _ := h.Get(HeaderDeadOffset)
	offset, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return offset
}

// eachRecordBytes is how much is read at once.
const eachRecordBytes = 256 << 10

// eachRecord calls fn for the records below end in the entries that were appended at since, in ms, or later.
// It leaves out what is damaged or compressed, and may wait for the disk.
func (p *Partition) eachRecord(since int64, end uint64, fn func(*wire.Record)) error {
	next, err := p.log.OffsetAt(since)
	if err != nil {
		return p.readError(p.First(), err)
	}
	var c log.Chunk
	defer c.Release()
	for next < end {
		err := p.log.ReadCold(&c, next, end, eachRecordBytes)
		var corrupt *log.CorruptError
		switch {
		case errors.As(err, &corrupt):
			next = max(next+1, corrupt.Next)
		case errors.Is(err, log.ErrTruncated):
			next = max(next+1, p.First())
		case err != nil:
			return p.readError(next, err)
		case c.Next <= next:
			return nil
		default:
			walkRecords(&c, fn)
			next = c.Next
		}
		c.Release()
	}
	return nil
}

func walkRecords(c *log.Chunk, fn func(*wire.Record)) {
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return
			}
			b = rest
			batch, err := wire.ViewBatch(e.Payload)
			if e.Kind != wire.KindData || err != nil || batch.Codec() != wire.CodecNone {
				continue
			}
			for rec, err := range batch.Records() {
				if err != nil {
					break
				}
				fn(&rec)
			}
		}
	}
}
