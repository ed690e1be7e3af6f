package server

import (
	"errors"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// fetchRequest is one fetch until it is answered.
type fetchRequest struct {
	b           *binary
	p           *partition.Partition
	correlation uint32
	offset      uint64
	named       bool // the client named the offset: when retention has passed it, the client is told
	minBytes    int
	maxBytes    int
	wait        time.Duration
	deadline    time.Time
	filter      wire.Filter
}

// maxSkips is how many reads of nothing but what is over its time to live follow each other in one
// turn: the other connections of the loop wait meanwhile.
const maxSkips = 16

// maxFetchBytes leaves room for the header of the reply frame and the body's fixed part.
const maxFetchBytes = wire.MaxFrameBytes - wire.HeaderBytes - wire.EntriesFixed

func (b *binary) fetch(f wire.Frame, now time.Time) error {
	var m wire.Fetch
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	r := fetchRequest{
		b: b, p: p, correlation: f.Correlation,
		minBytes: int(m.MinBytes), maxBytes: min(max(1, int(m.MaxBytes)), maxFetchBytes),
		wait: waitOf(m.MaxWaitMs), filter: m.Filter, named: m.From.Kind == wire.PositionOffset,
	}
	r.minBytes = min(r.minBytes, r.maxBytes)
	r.deadline = now.Add(r.wait)
	if m.From.Kind == wire.PositionTime {
		return r.startAt(m.From, m.Group)
	}
	if r.offset, err = p.Locate(m.From, m.Group); err != nil {
		return err
	}
	return r.start(now)
}

// startAt finds the offset first. It is apart so that r stays off the heap in every other case.
func (r fetchRequest) startAt(pos wire.Position, groupName string) error {
	return r.b.locate(r.p, pos, groupName, wire.OpFetch, r.correlation, func(offset uint64, now time.Time) error {
		r.offset = offset
		return r.start(now)
	})
}

// start answers the fetch now, or when there are records, or when the peer has read.
func (r *fetchRequest) start(now time.Time) error {
	if r.b.s.blocked() || len(r.b.blocked) > 0 {
		return r.b.later(r.escaped())
	}
	if done, err := r.serve(r.minBytes); done || err != nil {
		return err
	}
	if r.wait == 0 {
		_, err := r.serve(0)
		return err
	}
	return r.escaped().poll(now)
}

// escaped returns r on the heap: a fetch that is answered at once stays off it.
func (r *fetchRequest) escaped() *fetchRequest {
	c := *r
	return &c
}

func (r *fetchRequest) poll(now time.Time) error {
	q := &poll{b: r.b, parts: []*partition.Partition{r.p}}
	serve := func(least int) bool {
		if r.b.s.blocked() {
			return r.b.later(r) == nil // answered when the peer has read
		}
		done, err := r.serve(least)
		if err != nil {
			r.fail(err)
		}
		return done || err != nil
	}
	q.try = func([]*partition.Partition, time.Time) bool { return serve(r.minBytes) }
	q.last = func(time.Time) { serve(0) }
	q.fail = func(err error) {
		q.end()
		r.fail(err)
	}
	return q.start(r.deadline, now)
}

// retry is called when the peer has read.
func (r *fetchRequest) retry(now time.Time) {
	if !now.Before(r.deadline) {
		r.minBytes = 0
	}
	done, err := false, r.b.allowed(actionConsume, r.p.Topic().Name()) // it may have changed meanwhile
	if err == nil {
		done, err = r.serve(r.minBytes)
	}
	if err == nil && !done {
		err = r.poll(now)
	}
	if err != nil {
		r.fail(err)
	}
}

func (r *fetchRequest) fail(err error) { r.b.fail(wire.OpFetch, r.correlation, asWireError(err)) }

// serve answers when at least least bytes of entries are there. It reports whether the fetch is
// answered, or is with a worker that answers it.
func (r *fetchRequest) serve(least int) (done bool, err error) {
	if len(r.filter) > 0 {
		return r.serveSifted(least)
	}
	c := &r.b.s.loop.chunk
	defer c.Release()
	for skips := 0; ; skips++ {
		err = r.read(c)
		if r.passed(err) {
			continue
		}
		if err != nil || c.Bytes > 0 || c.Next == r.offset {
			break
		}
		r.offset = c.Next // all that was read is over its time to live
		if skips == maxSkips {
			least = 0 // the next fetch goes on
			break
		}
		c.Release()
	}
	if errors.Is(err, log.ErrCold) {
		return true, r.escaped().serveCold()
	}
	if err != nil || c.Bytes < least && c.Bytes < r.maxBytes {
		return false, err
	}
	r.b.sendEntries(wire.OpFetch|wire.OpReply, r.correlation, r.p, r.offset, c)
	return true, nil
}

// read reads from memory, or from the page cache for the only active connection: handing that to a worker and the answer
// back costs as much as the read.
func (r *fetchRequest) read(c *log.Chunk) error {
	err := r.p.Read(c, r.offset, r.maxBytes)
	if errors.Is(err, log.ErrCold) && r.b.s.loop.alone() {
		return r.p.ReadCached(c, r.offset, r.maxBytes)
	}
	return err
}

// passed reports whether a read failed because retention has passed the offset while the request waited, and the
// client had asked for a position such as the first record. Then the request goes on at the start.
func (r *fetchRequest) passed(err error) bool {
	if err == nil || r.named || !errors.Is(err, wire.CodeOffsetOutOfRange) {
		return false
	}
	before := r.offset
	r.offset = max(before, r.p.First())
	return r.offset > before
}

// serveCold reads with a worker. Old records are always enough: nothing waits for more of them.
func (r *fetchRequest) serveCold() error {
	return r.b.workChunk(wire.OpFetch, r.correlation,
		func(c *log.Chunk) (err error) {
			for err = r.p.ReadCold(c, r.offset, r.maxBytes); r.passed(err); {
				err = r.p.ReadCold(c, r.offset, r.maxBytes)
			}
			return err
		},
		func(c *log.Chunk, _ time.Time) {
			r.b.sendEntries(wire.OpFetch|wire.OpReply, r.correlation, r.p, r.offset, c)
		})
}

// sendEntries writes a frame with whole entries: a fetch reply or a delivery.
func (b *binary) sendEntries(op wire.Op, correlation uint32, p *partition.Partition, offset uint64, c *log.Chunk) {
	next := max(offset, c.Next)
	body := wire.Entries{First: p.First(), Visible: p.Visible(), Next: next}
	out := b.s.buffer()
	out.B = wire.AppendHeader(out.B, op, 0, correlation, wire.EntriesFixed+c.Bytes)
	out.B = body.AppendFixed(out.B)
	if c.Bytes > 0 {
		b.s.writeChunk(c)
		b.s.loop.delivered(p, int(next-offset)-c.Dropped, c.Bytes)
	}
}
