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

// buried finds dead letters that an earlier burial published but did not mark as done. A nil *buried finds none.
type buried struct {
	// ends has the next offset of each dead-letter partition when this burial first looked: records behind it are
	// this burial's own.
	ends map[*Partition]uint64
}

// maxSetBack is how far the wall clock may have been set back between the death of a message and a burial that a
// crash interrupted. A clock that was off by a time zone is set back by hours.
const maxSetBack = 3 * time.Hour

// among returns the offsets of the dead letters of p that are already in target. A dead letter is published after
// the message died, so among reads only the end of the topic, from maxSetBack before the earliest death on.
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

// deadOffset returns the offset that a dead letter had in its partition, and math.MaxUint64 for other records.
func deadOffset(h wire.Headers) uint64 {
	v, _ := h.Get(wire.HeaderDeadOffset)
	offset, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return offset
}

// eachRecordBytes is how much eachRecord reads at once.
const eachRecordBytes = 256 << 10

// eachRecord calls fn for the records below the offset end in entries that were appended at since, in milliseconds
// since 1970, or later. It skips damaged entries and compressed batches. It may wait for the disk. The record is
// valid during the call.
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

// walkRecords calls fn for the records of uncompressed batches in c.
func walkRecords(c *log.Chunk, fn func(*wire.Record)) {
	for e, err := range entries(c) {
		if err != nil {
			return
		}
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
