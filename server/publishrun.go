package server

import (
	encoding "encoding/binary"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// maxRun and runBytes bound the publishes that are appended under one lock, and so how long it is held: 128 of the smallest
// take 5 us.
const (
	maxRun   = 128
	runBytes = 64 << 10
)

// publishRun holds the outcome of the checks of the last publish, so that publishes directly behind it that differ only in
// their batches need not be checked again. It is valid for input that arrived together.
type publishRun struct {
	p         *partition.Partition // nil when there is no run
	op        uint16               // operation and flags, as encoded in a frame
	target    uint32               // handle and partition, as encoded in a body
	level     wire.Level
	maxRecord int
	next      uint32 // correlation id of the publish that continues it
	items     []log.Data
	bytes     int
	records   int
}

// lead begins a run that publishes directly behind f can join.
func (r *publishRun) lead(f wire.Frame, p *partition.Partition, level wire.Level, config *partition.Config) {
	if config.Compact {
		return // every record must be checked for a key
	}
	r.p, r.level, r.maxRecord = p, level, config.MaxRecord
	r.op = uint16(f.Op) | uint16(f.Flags)<<8
	r.target = encoding.LittleEndian.Uint32(f.Body)
	r.next = f.Correlation + 1
	r.items, r.bytes, r.records = r.items[:0], 0, 0
}

// runOverhead is the size of a publish frame without its batch.
const runOverhead = wire.HeaderBytes + 4

// take splits the next frame off in and adds it to the run, if it continues the run.
func (r *publishRun) take(in []byte) (rest []byte, ok bool) {
	if len(in) < runOverhead {
		return in, false
	}
	size := uint64(encoding.LittleEndian.Uint32(in)) + 4
	if size > uint64(len(in)) || size < runOverhead || size > wire.MaxFrameBytes ||
		encoding.LittleEndian.Uint16(in[4:]) != r.op ||
		encoding.LittleEndian.Uint32(in[6:]) != r.next ||
		encoding.LittleEndian.Uint32(in[10:]) != r.target {
		return in, false
	}
	batch := in[runOverhead:size:size]
	count, ok := wire.PlainBatch(batch, r.maxRecord)
	if !ok {
		return in, false
	}
	r.items = append(r.items, log.Data{Payload: batch, Count: count})
	r.bytes += len(batch)
	r.records += int(count)
	r.next++
	return in[size:], true
}

func (r *publishRun) full() bool { return len(r.items) >= maxRun || r.bytes >= runBytes }

// follow publishes the frames at the start of in that continue the last publish, and returns the rest. It must be called
// directly after dispatch, so that no other connection continues the run.
func (b *binary) follow(in []byte, now time.Time) (rest []byte) {
	r := &b.s.loop.scratch.run
	if r.p == nil {
		return in
	}
	for ok := true; ok; {
		if in, ok = r.take(in); !ok || r.full() {
			b.publishRun(r, now)
		}
	}
	r.p = nil
	return in
}

// publishRun appends the collected batches and answers them.
func (b *binary) publishRun(r *publishRun, now time.Time) {
	if len(r.items) == 0 {
		return
	}
	base, n, err := r.p.PublishRun(r.items, now.UnixMilli())
	first := r.next - uint32(len(r.items))
	turn := &b.s.loop.turn
	turn.requested += uint64(len(r.items))
	turn.publishes += uint64(n)
	for _, d := range r.items[n:] {
		r.records -= int(d.Count)
		r.bytes -= len(d.Payload)
	}
	turn.published.add(r.records, r.bytes)
	if n > 0 {
		b.acknowledge(r.p, first, uint32(n), base, uint64(r.records), r.level)
	}
	for i := n; i < len(r.items); i++ {
		b.fail(wire.OpPublish, first+uint32(i), asWireError(err))
	}
	clear(r.items) // they are views of the input
	r.items, r.bytes, r.records = r.items[:0], 0, 0
}
