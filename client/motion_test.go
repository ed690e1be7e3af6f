package client

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A broker that reads slowly, as behind a slow network, is not taken for a dead one while much is on its way to it.
func TestALongBacklogThatGetsShorterMoves(t *testing.T) {
	b := startBroker(t)
	reads := make(chan struct{})
	defer close(reads)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpSend {
			<-reads
		}
		return f.Op == wire.OpSend
	})
	c := dial(t, b, Options{PingInterval: time.Hour})
	_, err := c.Ping(within(t))
	require.NoError(t, err)
	cn := c.conn.Load()
	var seen motion
	eventually(t, func() bool { return !cn.moves(&seen) }) // also the first ping of the connection is answered

	const size = 200 << 10
	send := func() {
		require.NoError(t, c.Send(within(t), &Message{Subject: "s", Value: make([]byte, size)}))
	}
	send()
	eventually(t, func() bool { return !cn.moves(&seen) })
	require.False(t, cn.moves(&seen), "nothing is read")
	for err == nil { // until the kernels keep no more
		ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
		err = c.Send(ctx, &Message{Subject: "s", Value: make([]byte, size)})
		cancel()
	}
	eventually(t, func() bool { return !cn.moves(&seen) })
	arrived := cn.line.reads.Load()
	moved := false
	for !moved {
		select {
		case reads <- struct{}{}:
			time.Sleep(time.Millisecond)
			moved = cn.moves(&seen)
		case <-within(t).Done():
			t.Fatal("a backlog that gets shorter does not count")
		}
	}
	require.Equal(t, arrived, cn.line.reads.Load(), "nothing has arrived meanwhile")
}

func TestAPingBehindABacklogGetsTime(t *testing.T) {
	const n = 80
	b := startBroker(t)
	var got atomic.Int32
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpSend {
			// With a large buffer the kernel would say once in 200 ms that it has room again.
			_ = c.nc.(*net.TCPConn).SetReadBuffer(128 << 10)
			time.Sleep(20 * time.Millisecond) // so slow is the network
			got.Add(1)
		}
		return f.Op == wire.OpSend
	})
	c := dial(t, b, Options{PingInterval: 200 * time.Millisecond})
	for range n {
		require.NoError(t, c.Send(within(t), &Message{Subject: "s", Value: make([]byte, 200<<10)}))
	}
	eventually(t, func() bool { return got.Load() == n || c.Stalls() > 0 })
	require.Zero(t, c.Stalls(), "after %d messages", got.Load())
}

// On a slow network the answer to a heartbeat waits behind what the broker has sent before. The member goes on to send
// heartbeats, so that the broker does not expel it, and keeps the connection.
func TestAMemberOutlivesLateAnswers(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var first atomic.Pointer[fakeConn]
	var beats atomic.Int32
	done := make(chan struct{})
	defer close(done)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpHeartbeat {
			return f.Op == wire.OpPing|wire.OpReply
		}
		if first.CompareAndSwap(nil, c) {
			b.wg.Go(func() { chatter(c, done) })
		}
		if first.Load() == c {
			beats.Add(1)
		}
		return true
	})
	c := dial(t, b, Options{})
	s := Group("g", "t")
	s.SessionTimeout = 800 * time.Millisecond
	ctx, cancel := context.WithCancel(within(t))
	ran := make(chan error)
	go func() { ran <- c.Run(ctx, s, func(context.Context, *Message) error { return nil }) }()
	eventually(t, func() bool { return first.Load() != nil })
	eventually(t, func() bool { return beats.Load() >= 5 || c.Stalls() > 0 })
	require.Zero(t, c.Stalls(), "after %d heartbeats", beats.Load())
	eventually(t, func() bool { return c.Stalls() > 0 }) // in the end it is a stall nevertheless
	cancel()
	<-ran
}

// chatter keeps a connection from being silent.
func chatter(c *fakeConn, done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.send(encodeFrame(wire.OpPing, 0, 9, nil))
		case <-done:
			return
		}
	}
}
