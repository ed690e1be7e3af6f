package server

import (
	encoding "encoding/binary"
	"math"
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
	limited   bool                 // the user may not publish to all subjects
	p         *partition.Partition // nil when there is no run
	op        uint16               // operation and flags, as encoded in a frame
	target    uint32               // handle and partition, as encoded in a body
	level     wire.Level
	maxRecord int
	next      uint32  // correlation id of the publish that continues it
	batches   log.Run // views of the input
	bytes     int
	records   int
}

// lead begins a run that publishes directly behind f can join.
func (r *publishRun) lead(f wire.Frame, to admission, limited bool) {
	if to.config.Compact {
		return // every record must be checked for a key
	}
	r.limited, r.p, r.level, r.maxRecord = limited, to.p, to.level, to.config.MaxRecord
	r.op = uint16(f.Op) | uint16(f.Flags)<<8
	r.target = encoding.LittleEndian.Uint32(f.Body)
	r.next = f.Correlation + 1
	if r.batches.Payloads == nil {
		r.batches.Payloads, r.batches.Counts = make([][]byte, 0, maxRun), make([]uint32, 0, maxRun)
	}
	r.reset()
}

// reset removes the batches from the run.
func (r *publishRun) reset() {
	clear(r.batches.Payloads)
	r.batches.Payloads, r.batches.Counts = r.batches.Payloads[:0], r.batches.Counts[:0]
	r.bytes, r.records = 0, 0
}

// runOverhead is the size of a publish frame without its batch.
const runOverhead = wire.HeaderBytes + 4

// shortBatch is the size of a batch up to which its checksum is checked together with those of others.
const shortBatch = 256

// take splits the frames that continue the run off in and adds them to it, until it is full. It leaves the checksums of
// short batches to checkSums.
func (r *publishRun) take(in []byte) (rest []byte) {
	in = r.takeShort(in)
	le := encoding.LittleEndian
	payloads, counts := r.batches.Payloads, r.batches.Counts
	op, target, next, at := r.op, r.target, r.next, 0
	bytes, records := r.bytes, r.records
	for len(payloads) < maxRun && bytes < runBytes && len(in)-at >= runOverhead {
		h := (*[runOverhead]byte)(in[at:])
		size := uint64(le.Uint32(h[:])) + 4
		if size > uint64(len(in)-at) || size < runOverhead ||
			le.Uint16(h[4:]) != op || le.Uint32(h[6:]) != next || le.Uint32(h[10:]) != target {
			break
		}
		end := at + int(size)
		batch := in[at+runOverhead : end : end]
		count, ok := r.check(batch)
		if !ok {
			break
		}
		payloads, counts = append(payloads, batch), append(counts, count)
		bytes += len(batch)
		records += int(count)
		next++
		at = end
	}
	r.batches.Payloads, r.batches.Counts = payloads, counts
	r.next, r.bytes, r.records = next, bytes, records
	return in[at:]
}

// takeShort is take for batches of one record with a short value, the most common of the small ones. It is a loop of its
// own, because the compiler then keeps most of what it needs in registers.
func (r *publishRun) takeShort(in []byte) (rest []byte) {
	const least, most = runOverhead + wire.PlainValueLeast, runOverhead + wire.PlainValueMost
	le := encoding.LittleEndian
	n := len(r.batches.Payloads)
	room := n + int(min(uint32(maxRun-n), math.MaxUint32-r.next)) // up to where the correlation id wraps around
	payloads, counts := r.batches.Payloads[:room], r.batches.Counts[:room]
	longest := uint(min(most, runOverhead+r.maxRecord))
	start := uint64(r.op) | uint64(r.next)<<16 | uint64(r.target)<<48 // of a frame, behind its size
	high := uint16(r.target >> 16)
	all := len(in)
	for n < len(payloads) && n < len(counts) && len(in) >= least {
		size := uint(le.Uint32(in)) + 4
		if size > uint(len(in)) || size > longest || size < least ||
			le.Uint64(in[4:]) != start || le.Uint16(in[12:]) != high || !wire.PlainValue(in[runOverhead:size]) {
			break
		}
		payloads[n], counts[n] = in[runOverhead:size:size], 1
		in = in[size:]
		start += 1 << 16
		n++
	}
	more := n - len(r.batches.Payloads)
	r.batches.Payloads, r.batches.Counts = payloads[:n], counts[:n]
	r.next += uint32(more)
	r.bytes += all - len(in) - more*runOverhead
	r.records += more
	return in
}

// check reports whether a batch can be part of the run, if its checksum is right, and how many records it has.
func (r *publishRun) check(batch []byte) (count uint32, ok bool) {
	if len(batch) > wire.MaxFrameBytes-runOverhead ||
		len(batch) > shortBatch && !wire.PayloadOK(batch) { // first, because it reads all, which the processor foresees
		return 0, false
	}
	count, ok = wire.PlainBatch(batch, r.maxRecord)
	return count, ok && (!r.limited || r.bare(batch))
}

// bare reports whether no record has a subject: whether the user may publish to that is checked without a run.
func (r *publishRun) bare(raw []byte) bool {
	var batch wire.Batch
	if batch.Parse(raw) != nil {
		return false
	}
	for rest := batch.Reader(); ; {
		var rec wire.Record
		if more, _ := rest.Next(&rec); !more || len(rec.Subject) > 0 {
			return !more
		}
	}
}

// checkSums removes the first batch whose checksum is wrong, and all behind it. It returns the size of their frames.
func (r *publishRun) checkSums() (removed int) {
	p := r.batches.Payloads
	n := 0
	for n < len(p) {
		end := n
		for end < len(p) && len(p[end]) <= shortBatch {
			end++
		}
		if n += wire.PayloadsOK(p[n:end]); n < end {
			break
		}
		n++ // a long one
	}
	for i := n; i < len(p); i++ {
		r.bytes -= len(p[i])
		r.records -= int(r.batches.Counts[i])
		r.next--
		removed += runOverhead + len(p[i])
	}
	if removed > 0 {
		clear(p[n:])
		r.batches.Payloads, r.batches.Counts = p[:n], r.batches.Counts[:n]
	}
	return removed
}

func (r *publishRun) full() bool { return len(r.batches.Payloads) >= maxRun || r.bytes >= runBytes }

// follow publishes the frames at the start of in that continue the last publish, and returns the rest. It must be called
// directly after dispatch, so that no other connection continues the run.
func (b *binary) follow(in []byte, now time.Time) (rest []byte) {
	r := &b.s.loop.scratch.run
	if r.p == nil {
		return in
	}
	for more := true; more; {
		behind := r.take(in)
		removed := r.checkSums()
		more = removed == 0 && r.full()
		in = in[len(in)-len(behind)-removed:]
		b.publishRun(r, now)
	}
	r.p = nil
	return in
}

// publishRun appends the collected batches and answers them.
func (b *binary) publishRun(r *publishRun, now time.Time) {
	all := len(r.batches.Payloads)
	if all == 0 {
		return
	}
	base, n, err := r.p.PublishRun(r.batches, now.UnixMilli())
	first := r.next - uint32(all)
	turn := &b.s.loop.turn
	turn.requested += uint64(all)
	turn.publishes += uint64(n)
	for i := n; i < all; i++ {
		r.records -= int(r.batches.Counts[i])
		r.bytes -= len(r.batches.Payloads[i])
	}
	turn.published.add(r.records, r.bytes)
	if n > 0 {
		b.acknowledge(r.p, first, uint32(n), base, uint64(r.records), r.level)
	}
	for i := n; i < all; i++ {
		b.fail(wire.OpPublish, first+uint32(i), asWireError(err))
	}
	r.reset()
}
