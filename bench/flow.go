package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// flow is one kind of traffic in a mix: one publisher with its own rate, and the readers of its messages.
type flow struct {
	name, what string
	size       int // of a value, in bytes
	// publish sends message number seq. It calls done once, when the message is acknowledged or has failed.
	publish func(ctx context.Context, seq int64, value []byte, done func(error)) error
	flush   func(ctx context.Context) error
	readers []*reader
	window  int64     // how many messages the publisher may be ahead of acknowledgements and the slowest reader
	acks    *recorder // latency from the due time to the acknowledgement; nil to record none

	sent, acked, late atomic.Int64
	fail              atomic.Pointer[error] // the first error, or nil
	measured          float64               // acknowledgements per second in the last run
}

// reader counts the messages that it reads of a flow.
type reader struct{ seen atomic.Int64 }

// latencyEvery is n where the latency of every n-th message is recorded: a sample costs a callback of its
// own.
const latencyEvery = 16

// valueHead is the size of the stamp at the head of each value: two 8-byte integers.
const valueHead = 16

// stamp writes the number of a message and its due time into its value, which has at least valueHead
// bytes.
func stamp(value []byte, seq int64, due time.Time) {
	binary.LittleEndian.PutUint64(value, uint64(seq))
	binary.LittleEndian.PutUint64(value[8:], uint64(due.UnixNano()))
}

// unstamp returns what stamp wrote.
func unstamp(value []byte) (seq int64, due time.Time, err error) {
	if len(value) < valueHead {
		return 0, time.Time{}, fmt.Errorf("a value has %d bytes: at least %d were published", len(value), valueHead)
	}
	return int64(binary.LittleEndian.Uint64(value)), time.Unix(0, int64(binary.LittleEndian.Uint64(value[8:]))), nil
}

// recordError keeps the first error that is not nil; it ends the flow.
func (f *flow) recordError(err error) {
	if err == nil {
		return
	}
	first := fmt.Errorf("%s: %w", f.name, err)
	f.fail.CompareAndSwap(nil, &first)
}

// err returns the error that was recorded, or nil.
func (f *flow) err() error {
	if e := f.fail.Load(); e != nil {
		return *e
	}
	return nil
}

// slowest returns how many messages were acknowledged and read by every reader, counting the slowest.
func (f *flow) slowest() int64 {
	least := f.acked.Load()
	for _, r := range f.readers {
		least = min(least, r.seen.Load())
	}
	return least
}

// run publishes for d, and waits until every message was acknowledged and read. A rate above 0 is in
// messages per second and makes an open loop; otherwise the window alone limits the publisher.
func (f *flow) run(ctx context.Context, d time.Duration, rate float64) error {
	value := make([]byte, f.size)
	ack := f.ack // evaluated once: a method value for each message would be allocated each time
	start, before := time.Now(), f.acked.Load()
	for n := 0; f.err() == nil && ctx.Err() == nil; n++ {
		due := time.Now()
		if rate > 0 {
			due = start.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			time.Sleep(time.Until(due))
		}
		if due.Sub(start) >= d {
			break
		}
		if err := f.awaitRoom(ctx); err != nil {
			return err
		}
		if rate > 0 && time.Since(due) > time.Millisecond {
			f.late.Add(1)
		}
		seq := f.sent.Add(1) - 1
		stamp(value, seq, due)
		done := ack
		if f.acks != nil && seq%latencyEvery == 0 {
			done = f.ackTimed(due)
		}
		if err := f.publish(ctx, seq, value, done); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	f.measured = float64(f.acked.Load()-before) / time.Since(start).Seconds()
	return errors.Join(f.flush(ctx), f.awaitDrained(ctx))
}

// ackTimed returns a callback that also records the latency of a message from its due time.
func (f *flow) ackTimed(due time.Time) func(error) {
	return func(err error) {
		f.acks.record(time.Since(due))
		f.ack(err)
	}
}

// ack counts the outcome of a message, and records its error.
func (f *flow) ack(err error) {
	f.recordError(err)
	f.acked.Add(1)
}

// awaitRoom waits until there is room for a message in the window.
func (f *flow) awaitRoom(ctx context.Context) error {
	for f.sent.Load()-f.slowest() >= f.window && f.err() == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(paceInterval):
		}
	}
	return f.err()
}

// drainLimit is how long acknowledgements and readers may take for the last messages.
const drainLimit = time.Minute

// awaitDrained waits until every message was acknowledged and read.
func (f *flow) awaitDrained(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, drainLimit,
		fmt.Errorf("%s: not every message arrived within %v", f.name, drainLimit))
	defer cancel()
	for f.slowest() < f.sent.Load() {
		if err := f.err(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %d sent, %d acknowledged, %d read", context.Cause(ctx), f.sent.Load(), f.acked.Load(), f.slowest())
		case <-time.After(time.Millisecond):
		}
	}
	return f.err()
}
