package client

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// alone calls the broker until the reader has lent its turn, and returns the connection.
func alone(t *testing.T, c *Client) *conn {
	t.Helper()
	cn := c.conn.Load()
	if cn.direct == nil {
		t.Skip("this system has no direct writes: see canWriteDirectly")
	}
	eventually(t, func() bool {
		_, err := c.Ping(within(t))
		require.NoError(t, err)
		return cn.lentTurns() > 0
	})
	return cn
}

func (cn *conn) lentTurns() uint64 {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.turn.lent
}

// Callers who come one by one read their own answers, of every kind.
func TestCallersReadTheirOwnAnswers(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	cn := alone(t, c)
	before := cn.lentTurns()
	ctx := t.Context()
	for i := range 100 {
		r, err := c.Publish(ctx, &Message{Topic: "t", Value: []byte(text(i))})
		require.NoError(t, err)
		require.EqualValues(t, i, r.Offset)
	}
	_, err := c.PublishAtomic(ctx, &Message{Topic: "t", Value: []byte(text(100))}, &Message{Topic: "t", Value: []byte(text(101))})
	require.NoError(t, err)
	f, err := c.Fetch(ctx, FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, f.Messages, 102)
	require.Equal(t, texts(102), b.values("t", 0))
	eventually(t, func() bool { // on a busy machine an answer may be there before its caller waits for it
		_, err := c.Ping(within(t))
		require.NoError(t, err)
		return cn.lentTurns() > before
	})
}

// What nobody waits for by himself is read by the reader, also when it had lent its turn.
func TestTheReaderTakesItsTurnBack(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	for i := range 20 {
		alone(t, c)
		outcome := make(chan error, 1)
		m := &Message{Topic: "t", Value: []byte(text(i))}
		require.NoError(t, c.PublishAsync(within(t), m, func(_ Receipt, err error) { outcome <- err }))
		require.NoError(t, <-outcome)
	}
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	for i := range 20 {
		m, err := k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, text(i), string(m.Value))
	}
}

// A connection that ends while nobody reads is noticed, and replaced.
func TestTheEndIsNoticedBetweenCalls(t *testing.T) {
	b := startBroker(t)
	down := make(chan struct{}, 1)
	c := dial(t, b, Options{OnDisconnect: func(error) { down <- struct{}{} }})
	alone(t, c)
	b.cut()
	<-down
	_, err := c.Ping(within(t))
	require.NoError(t, err)
	alone(t, c)
}

// The context of a caller who reads ends its call and nothing else, also in the middle of a frame that has
// memory of its own.
func TestACallerWhoReadsCanBeCancelled(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, string(make([]byte, 3*largeFrame)))
	c := dial(t, b, Options{})
	for _, op := range []wire.Op{wire.OpPing, wire.OpFetch} {
		alone(t, c)
		half, rest := make(chan struct{}), make(chan struct{})
		var once atomic.Bool
		b.setHook(func(fc *fakeConn, f wire.Frame) bool {
			if f.Op != op || !once.CompareAndSwap(false, true) {
				return false
			}
			whole := encodeFrame(op|wire.OpReply, 0, f.Correlation, make([]byte, wire.EntriesFixed+2*largeFrame))
			fc.send(whole[:len(whole)/2])
			close(half)
			<-rest
			fc.send(whole[len(whole)/2:])
			return true
		})
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-half
			cancel()
		}()
		_, _, err := c.conn.Load().try(ctx, call{op: op, named: true})
		require.ErrorIs(t, err, context.Canceled)
		close(rest)
		_, err = c.Ping(within(t))
		require.NoError(t, err)
		b.setHook(nil)
		f, err := c.Fetch(within(t), FetchRequest{Topic: "t"})
		require.NoError(t, err)
		require.Len(t, f.Messages, 1)
	}
	require.Len(t, b.hellos, 1, "the connection stayed")
}

// Callbacks run on the client's goroutines, not in the call of somebody who reads.
func TestCallersRunNoCallbacksOfOthers(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	alone(t, c)
	var held wire.Frame
	b.setHook(func(fc *fakeConn, f wire.Frame) bool {
		switch f.Op {
		case wire.OpPublish:
			held = f
			return true
		case wire.OpPing:
			fc.handle(held)
		}
		return false
	})
	where := make(chan string, 1)
	m := &Message{Topic: "t", Value: []byte("x")}
	require.NoError(t, c.PublishAsync(within(t), m, func(Receipt, error) { where <- string(debug.Stack()) }))
	_, err := c.Ping(within(t))
	require.NoError(t, err)
	require.Contains(t, <-where, "readLoop")
}

// Callers who wait, callers who do not, and contexts that end at any time share a connection.
func TestCallersAndTheReaderTakeTurns(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	var wg sync.WaitGroup
	var sent, stored atomic.Int64
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 300 {
				switch r.IntN(5) {
				case 0:
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(200))*time.Microsecond)
					_, _ = c.Ping(ctx)
					cancel()
				case 1:
					sent.Add(1)
					err := c.PublishAsync(context.Background(), &Message{Topic: "t", Value: []byte("a")}, func(_ Receipt, err error) {
						if err == nil {
							stored.Add(1)
						}
					})
					if err != nil {
						t.Error(err)
					}
				case 2:
					if _, err := c.Ping(context.Background()); err != nil {
						t.Error(err)
					}
				default:
					sent.Add(1)
					if _, err := c.Publish(context.Background(), &Message{Topic: "t", Value: []byte("s")}); err != nil {
						t.Error(err)
					} else {
						stored.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, c.Flush(within(t)))
	require.Equal(t, sent.Load(), stored.Load())
	require.Len(t, b.values("t", 0), int(sent.Load()))
	require.Len(t, b.hellos, 1, "the connection stayed")
}
