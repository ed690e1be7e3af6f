package client

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// lentBatch is a large batch of a lane that a connection is to write.
func lentBatch(cn *conn, id uint32) *batch {
	b := &batch{lane: &lane{}}
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
	require.Equal(t, append(want, "behind"...), got)
	require.Zero(t, cn.out.size())
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
					r, ok = cn.take(7, wire.OpPublish)
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
