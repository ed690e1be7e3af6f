package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// flow is one kind of traffic in a mix: one publisher at its pace, and the readers of what it publishes.
type flow struct {
	name, what string
	size       int
	// publish sends the message with this number; done is called once when it is acknowledged.
	publish func(ctx context.Context, seq int64, value []byte, done func(error)) error
	flush   func(ctx context.Context) error
	readers []*reader
	window  int64     // messages that may be published and not yet read by every reader
	acks    *recorder // from the due time to the ack; nil when nobody asks

	sent, acked, late atomic.Int64
	fail              atomic.Pointer[error]
	measured          float64 // acked a second in the last run
}

// reader counts what it reads of a flow.
type reader struct{ seen atomic.Int64 }

// latencyEvery is how many messages there are for each whose latency is recorded.
const latencyEvery = 16

const valueHead = 16

// stamp writes the number of a message and when it was due into its value.
func stamp(value []byte, seq int64, due time.Time) {
	binary.LittleEndian.PutUint64(value, uint64(seq))
	binary.LittleEndian.PutUint64(value[8:], uint64(due.UnixNano()))
}

func unstamp(value []byte) (seq int64, due time.Time, err error) {
	if len(value) < valueHead {
		return 0, time.Time{}, fmt.Errorf("a value of %d bytes", len(value))
	}
	return int64(binary.LittleEndian.Uint64(value)), time.Unix(0, int64(binary.LittleEndian.Uint64(value[8:]))), nil
}

func (f *flow) failed(err error) {
	if err == nil {
		return
	}
	first := fmt.Errorf("%s: %w", f.name, err)
	f.fail.CompareAndSwap(nil, &first)
}

func (f *flow) err() error {
	if e := f.fail.Load(); e != nil {
		return *e
	}
	return nil
}

// slowest is how much the slowest of acknowledgements and readers has seen.
func (f *flow) slowest() int64 {
	least := f.acked.Load()
	for _, r := range f.readers {
		least = min(least, r.seen.Load())
	}
	return least
}

// run publishes for d, rate messages a second or as many as the window lets through, and waits until
// all of it was acknowledged and read.
func (f *flow) run(ctx context.Context, d time.Duration, rate float64) error {
	value := make([]byte, f.size)
	ack := f.ack // one function value for all messages
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
		if err := f.room(ctx); err != nil {
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
	return errors.Join(f.flush(ctx), f.drained(ctx))
}

// ackTimed returns what to call when a message that was due then is acknowledged.
func (f *flow) ackTimed(due time.Time) func(error) {
	return func(err error) {
		f.acks.record(time.Since(due))
		f.ack(err)
	}
}

func (f *flow) ack(err error) {
	f.failed(err)
	f.acked.Add(1)
}

// room waits until the readers are not too far behind.
func (f *flow) room(ctx context.Context) error {
	for f.sent.Load()-f.slowest() >= f.window && f.err() == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(paceInterval):
		}
	}
	return f.err()
}

// drainLimit is how long readers may take for the last messages.
const drainLimit = time.Minute

// drained waits until everything sent was acknowledged and read.
func (f *flow) drained(ctx context.Context) error {
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
