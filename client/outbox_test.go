package client

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// lentBatch is a large batch of a lane that a connection is to write.
func lentBatch(cn *conn, id uint32) *batch {
	b := &batch{lane: &lane{op: wire.OpPublish}}
	b.builder.AddPlain(nil, bytes.Repeat([]byte("x"), lentBytes))
	b.seal(wire.CodecNone)
	b.stamp(wire.Producer{ID: 1})
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.appendBatchLocked(b.lane, b, 3, id)
	cn.pending[id] = request{op: wire.OpPublish, end: cn.queued, batch: b}
	return b
}

func TestALargeBatchIsWrittenFromWhereItIs(t *testing.T) {
	cn := newConn(&Client{}, nil, nil)
	cn.out.own = append(cn.out.own, "before"...)
	b := lentBatch(cn, 7)
	cn.out.own = append(cn.out.own, "behind"...)

	var got []byte
	for part := cn.startLocked(); len(part) > 0; part = cn.startLocked() {
		n := min(len(part), 10_000)
		got = append(got, part[:n]...)
		cn.wrote(n)
	}
	frame := wire.AppendHeader(nil, wire.OpPublish, 0, 7, publishBytes+len(b.bytes))
	publish := wire.Publish{Handle: 3, Batch: b.bytes}
	want := append([]byte("before"), publish.Append(frame)...)
	require.True(t, bytes.Equal(append(want, "behind"...), got))
	require.Zero(t, cn.out.size())
}

// The first burst of a connection finds no memory. What it takes doubles.
func TestTheFirstBurstGrowsInFewSteps(t *testing.T) {
	m := &Message{Subject: "a.b", Value: make([]byte, 500)}
	burst := func(each func(cn *conn)) (steps int) {
		cn := &conn{c: &Client{}, wake: make(chan struct{}, 1)}
		for had := 0; cn.out.size() < maxUnsent-1000; had = cap(cn.out.own) {
			each(cn)
			if cap(cn.out.own) != had {
				steps++
			}
		}
		return steps
	}
	sent := burst(func(cn *conn) {
		_, ok := cn.send(context.Background(), 0, m, nil, nil)
		require.True(t, ok)
	})
	require.LessOrEqual(t, sent, 10) // append takes 20
	batch := &batch{lane: &lane{op: wire.OpPublish}, bytes: m.Value}
	published := burst(func(cn *conn) { cn.appendBatchLocked(batch.lane, batch, 1, 2) })
	require.LessOrEqual(t, published, 10)
}

// What is published later is written the same way, large or small, with a number or without.
func TestARequestToPublishLaterIsWritten(t *testing.T) {
	f := func(p wire.Producer, values ...[]byte) {
		t.Helper()
		cn := newConn(&Client{}, nil, nil)
		b := &batch{lane: &lane{op: wire.OpSchedule, partition: 5}, batchKind: batchKind{level: wire.LevelOS}}
		for i, v := range values {
			b.begin(&wire.ScheduleItem{Kind: wire.ScheduleAt, Ms: int64(i / 2)}, b.batchKind)
			b.builder.AddPlain(nil, v)
		}
		require.Equal(t, len(values), b.count())
		b.seal(wire.CodecS2)
		require.Equal(t, len(values), b.count())
		b.stamp(wire.Producer{})
		b.stamp(p) // its numbering began again
		cn.appendBatchLocked(b.lane, b, 3, 7)
		var got []byte
		for part := cn.startLocked(); len(part) > 0; part = cn.startLocked() {
			got = append(got, part...)
			cn.wrote(len(part))
		}
		require.Equal(t, uint64(len(got)), cn.queued)
		frame, rest, _, ok, err := wire.NextFrame(got, wire.MaxFrameBytes)
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, rest)
		require.Equal(t, wire.OpSchedule, frame.Op)
		require.Equal(t, uint32(7), frame.Correlation)
		require.Equal(t, wire.LevelOS, wire.Level(frame.Flags&wire.FlagLevel))
		var m wire.Schedule
		require.NoError(t, m.Parse(frame.Body, frame.Flags))
		require.Equal(t, []uint16{3, 5}, []uint16{m.Handle, m.Partition})
		require.Equal(t, p, m.Producer)
		for i, it := range m.Items {
			require.Equal(t, int64(i), it.Ms)
			whole, err := wire.ViewBatch(it.Batch)
			require.NoError(t, err)
			for r, err := range whole.Records() {
				require.NoError(t, err)
				require.True(t, bytes.Equal(values[0], r.Value))
				values = values[1:]
			}
		}
		require.Empty(t, values)
	}
	small, large := []byte("small"), bytes.Repeat([]byte("x"), lentBytes)
	numbered := wire.Producer{ID: 1, Epoch: 2, Sequence: 3}
	f(wire.Producer{}, small)
	f(numbered, small, small, small)
	f(wire.Producer{}, small, large)
	f(numbered, large, small, small)
}

// The kernel may hand a batch to the broker, and the broker's answer to the reader, before the writer runs
// again. Until then the memory of the batch is not free.
func TestAnAnswerIsNotTakenBeforeTheBatchIsWritten(t *testing.T) {
	for name, end := range map[string]func(cn *conn, n int){
		"written":             func(cn *conn, n int) { cn.wrote(n) },
		"the connection ends": func(cn *conn, _ int) { cn.fail(ErrClosed) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := socketPair(t)
				cn := newConn(&Client{}, a, nil)
				b := lentBatch(cn, 7)
				part := cn.startLocked()
				var r request
				ok, done := false, false
				go func() {
					r, ok = cn.takeRequest(7, wire.OpPublish)
					done = true
				}()
				synctest.Wait()
				require.False(t, done)
				end(cn, len(part))
				synctest.Wait()
				require.True(t, done)
				require.Equal(t, name == "written", ok)
				if ok {
					require.Same(t, b, r.batch)
				}
			})
		})
	}
}
