package server

import (
	"errors"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// ackFrame is the last publish reply in the output buffer. While it is the last frame there, the reply to the next publish
// may extend it instead of getting a frame of its own.
type ackFrame struct {
	at    int    // where the frame starts
	end   int    // where it ends; it is the last frame only while the buffer ends there, too
	sent  uint64 // what the session had sent before; it is in the buffer only until more is sent
	first uint32 // correlation id it starts with
	next  uint32 // correlation id of a publish that could extend it
	p     *partition.Partition
	base  uint64
	after uint64 // offset behind the last batch that it acknowledges
	level wire.Level
}

// publish appends a batch. It is the hot path: it does not allocate, and the only copy is made by Partition.Publish.
func (b *binary) publish(f wire.Frame, now time.Time) {
	b.s.loop.turn.requested++
	if f.Flags&^wire.FlagLevel != 0 {
		b.fail(f.Op, f.Correlation, wire.Errorf(wire.CodeUnsupported, "unknown flags 0x%02x for publish", uint8(f.Flags)))
		return
	}
	if err := b.servePublish(f, now); err != nil {
		b.failFrame(f, err)
	}
}

func (b *binary) servePublish(f wire.Frame, now time.Time) error {
	var m wire.Publish
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	to, err := b.admit(m.Handle, m.Partition, f.Flags, len(m.Batch))
	if err != nil {
		return err
	}
	batch := &b.s.loop.scratch.batch
	if err := checkBatch(batch, m.Batch, to.config.MaxRecord); err != nil {
		return err
	}
	if err := b.s.mayCarry(batch); err != nil {
		return err
	}
	base, index, duplicate, err := to.p.Publish(batch, now.UnixMilli())
	if err != nil {
		return err
	}
	if !duplicate {
		b.s.loop.turn.published.add(int(batch.Count()), len(m.Batch))
		b.s.loop.routeBatch(to.p.Topic(), batch)
	}
	if to.level > wire.LevelMemory {
		b.s.loop.flush(to.p, to.level)
	}
	switch {
	case to.quiet:
	case to.level > wire.LevelMemory:
		b.s.loop.watch(to.p).await(ack{
			to: b, op: f.Op, correlation: f.Correlation, level: to.level,
			index: index, base: base, count: batch.Count(), held: len(m.Batch), duplicate: duplicate,
			arrived: now.UnixNano(),
		})
		b.held += len(m.Batch)
	default:
		b.s.loop.turn.publishes++
		b.acknowledgeOne(to.p, f.Correlation, base, batch.Count(), to.level, duplicate)
		if !b.s.loop.routes(to.p.Topic()) {
			b.s.loop.scratch.run.lead(f, to, b.s.who.Restricted())
		}
	}
	return nil
}

// admission is where a publish or schedule request goes and what it asks for.
type admission struct {
	p      *partition.Partition
	config *partition.Config // of the topic, when the request came
	level  wire.Level        // durability to reach before the reply
	quiet  bool              // the sender wants no reply
}

// admit checks what does not depend on the batches of a publish or schedule request: the partition, the
// permission, the level, and that size more bytes of this connection may wait for the disk. It comes before the checksums,
// so that a broker with too much to do does not compute them in vain.
func (b *binary) admit(handle, number uint16, flags wire.Flags, size int) (a admission, err error) {
	if a.p, err = b.partition(handle, number, actionPublish); err != nil {
		return a, err
	}
	a.config = a.p.Topic().Config()
	if a.level, a.quiet, err = b.publishLevel(wire.Level(flags&wire.FlagLevel), a.config.Level); err != nil {
		return a, err
	}
	if b.held > 0 && b.held+size > b.s.loop.srv.opts.MaxInFlightBytes { // one may be larger: it has to be sent some time
		return a, wire.Errorf(wire.CodeBusy, "%d bytes of this connection wait for the disk", b.held)
	}
	if b.s.loop.draining {
		return a, wire.Errorf(wire.CodeShutdown, "the broker is shutting down")
	}
	return a, nil
}

// checkBatch sets batch to a view of raw after checking it down to its records.
func checkBatch(batch *wire.Batch, raw []byte, maxRecord int) error {
	err := batch.Parse(raw)
	if err == nil {
		err = batch.Validate(maxRecord)
	}
	if err != nil {
		return batchError(err, maxRecord)
	}
	return nil
}

// publishLevel returns the level a publish must reach: the one asked for, and at least the topic's. quiet
// means that the sender wants no reply.
func (b *binary) publishLevel(asked, topic wire.Level) (level wire.Level, quiet bool, err error) {
	if asked > wire.LevelDisk || asked > b.s.loop.srv.registry.MaxLevel() {
		return 0, false, wire.Errorf(wire.CodeUnsupported, "this broker cannot reach level %s; %s is the highest",
			asked, b.s.loop.srv.registry.MaxLevel())
	}
	return max(asked, topic), asked == wire.LevelNone, nil
}

// batchError translates an error of Batch.Parse or Batch.Validate.
func batchError(err error, maxRecord int) *wire.Error {
	if errors.Is(err, wire.ErrRecordTooLarge) {
		return wire.Errorf(wire.CodeTooLarge, "a record of this topic has at most %d bytes", maxRecord)
	}
	return wire.Errorf(wire.CodeCorruptBatch, "%v", err)
}

// acknowledgeOne appends the reply to one publish. A duplicate gets a frame of its own.
func (b *binary) acknowledgeOne(p *partition.Partition, correlation uint32, base uint64, count uint32, level wire.Level, duplicate bool) {
	if !duplicate {
		b.acknowledge(p, correlation, 1, base, uint64(count), level)
		return
	}
	flags := wire.Flags(level) | wire.FlagDuplicate
	out := b.s.buffer()
	dst, at := wire.BeginFrame(out.B, wire.OpPublish|wire.OpReply, flags, correlation)
	out.B = wire.EndFrame(wire.PublishReply{Base: base}.Append(dst, flags), at)
	b.ack.end = 0 // nothing may extend it
}

// acknowledge appends the reply to publishes with consecutive correlation ids, whose records have consecutive offsets from
// base on. It extends the last reply when they follow that one directly.
func (b *binary) acknowledge(p *partition.Partition, correlation, publishes uint32, base, records uint64, level wire.Level) {
	out := b.s.buffer()
	a := &b.ack
	if a.end == len(out.B) && a.end > 0 && a.sent == b.s.sent && a.p == p && a.next == correlation && a.after == base && a.level == level {
		out.B = out.B[:a.at]
	} else {
		*a = ackFrame{sent: b.s.sent, p: p, first: correlation, base: base, level: level}
	}
	a.next, a.after = correlation+publishes, base+records
	flags := wire.Flags(level)
	extra := a.next - a.first - 1
	if extra > 0 {
		flags |= wire.FlagRange
	}
	dst, at := wire.BeginFrame(out.B, wire.OpPublish|wire.OpReply, flags, a.first)
	out.B = wire.EndFrame(wire.PublishReply{Base: a.base, Extra: extra}.Append(dst, flags), at)
	a.at, a.end = at, len(out.B)
}
