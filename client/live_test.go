package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// next returns the next message of a channel.
func next(t *testing.T, from <-chan *client.Message) *client.Message {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no message")
		return nil
	}
}

func TestAListenerSurvivesAPanic(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, _ *client.Client) {
		failures := make(chan error, 10)
		c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(err error) { failures <- err }})
		got := make(chan *client.Message, 10)
		_, err := c.Listen(within(t), "a", client.ListenOptions{}, func(_ context.Context, m *client.Message) {
			if string(m.Value) == "bad" {
				panic("oh")
			}
			got <- m
		})
		require.NoError(t, err)
		_, err = c.Reply(within(t), "b", client.ListenOptions{}, func(context.Context, *client.Message) ([]byte, error) {
			panic("no")
		})
		require.NoError(t, err)
		for _, v := range []string{"bad", "good"} {
			require.NoError(t, c.Send(within(t), &client.Message{Subject: "a", Value: []byte(v)}))
		}
		require.Equal(t, "good", string(next(t, got).Value))
		err = <-failures
		require.EqualError(t, err, "a: handler panicked: oh")
		p, ok := errors.AsType[*client.PanicError](err)
		require.True(t, ok)
		require.Equal(t, "oh", p.Value)

		_, err = c.Request(within(t), &client.Message{Subject: "b"})
		require.Equal(t, &client.ReplyError{Code: "500", Detail: "handler panicked: no"}, err)
		require.EqualError(t, <-failures, "b: handler panicked: no")
	})
}

func TestListenAndSend(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		got := make(chan *client.Message, 100)
		l, err := c.Listen(within(t), "orders.*", client.ListenOptions{}, func(_ context.Context, m *client.Message) { got <- m })
		require.NoError(t, err)
		m := &client.Message{
			Subject: "orders.eu", Key: []byte("k"), Value: []byte("hi"), Reply: "there",
			Headers: []client.Header{{Name: "A", Value: []byte("1")}, {Name: "A", Value: []byte("2")}},
		}
		require.NoError(t, c.Send(within(t), m))
		require.Equal(t, m, next(t, got))
		for i := range 50 {
			require.NoError(t, c.Send(within(t), &client.Message{Subject: "orders.n", Value: []byte(value(i))}))
		}
		for i := range 50 {
			require.Equal(t, value(i), string(next(t, got).Value))
		}
		require.NoError(t, c.Send(within(t), &client.Message{Subject: "orders.last"}))
		require.Equal(t, "orders.last", next(t, got).Subject)
		require.NoError(t, l.Close())
		require.NoError(t, c.Send(within(t), &client.Message{Subject: "orders.eu"}))
		_, err = c.Ping(within(t))
		require.NoError(t, err)
		require.Empty(t, got)
		require.NoError(t, l.Close(), "again")
	})
}

// Messages that arrive together share memory, and stay what they were.
func TestManyMessagesAtOnceAreTheHandlersToKeep(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		const n = 2000
		size := func(i int) int { return []int{0, 10, 300, 5000, 40_000}[i%97%5*(i%7/6)] + i%5 }
		for _, workers := range []int{1, 3} {
			got := make(chan *client.Message, 2*n)
			keep := func(_ context.Context, m *client.Message) { got <- m }
			_, err := c.Listen(within(t), fmt.Sprintf("w%d.*", workers), client.ListenOptions{Workers: workers}, keep)
			require.NoError(t, err)
			for i := range n {
				m := &client.Message{Subject: fmt.Sprintf("w%d.%d", workers, i/10), Value: bytes.Repeat([]byte{byte(i)}, size(i))}
				m.Key = []byte(value(i))
				require.NoError(t, c.Send(within(t), m))
			}
			kept := make([]*client.Message, n)
			for i := range kept {
				kept[i] = next(t, got)
			}
			if workers > 1 {
				slices.SortFunc(kept, func(a, b *client.Message) int { return bytes.Compare(a.Key, b.Key) })
			}
			for i, m := range kept {
				require.Equal(t, value(i), string(m.Key))
				require.Equal(t, fmt.Sprintf("w%d.%d", workers, i/10), m.Subject)
				require.Equal(t, size(i), len(m.Value))
				require.Equal(t, size(i), cap(m.Value), "appending to one does not reach the next")
				require.Equal(t, size(i), bytes.Count(m.Value, []byte{byte(i)}))
			}
		}
	})
}

func TestBadMessagesToSend(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	errs := make(chan error, 1)
	c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(err error) { errs <- err }})
	for _, m := range []*client.Message{
		{},
		{Subject: string(make([]byte, 5000))},
		{Subject: "a", Key: []byte("a\nb")},
		{Subject: "a", Key: []byte(" a")},
		{Subject: "a", Headers: []client.Header{{Name: "a:b"}}},
		{Subject: "a", Headers: []client.Header{{Name: ""}}},
		{Subject: "a", Headers: []client.Header{{Name: "a", Value: []byte("\r\n")}}},
		{Subject: "a", Headers: []client.Header{{Name: "a", Value: make([]byte, wire.MaxHeaderBytes)}}},
		{Subject: "a", Value: make([]byte, wire.MaxFrameBytes)},
	} {
		require.Error(t, c.Send(within(t), m))
	}
	require.NoError(t, c.Send(within(t), &client.Message{Subject: "a b"}))
	require.ErrorIs(t, <-errs, wire.CodeInvalid)
	_, err := c.Request(within(t), &client.Message{Subject: "a..b"})
	require.ErrorIs(t, err, wire.CodeInvalid)
	_, err = c.Listen(within(t), "a..b", client.ListenOptions{}, func(context.Context, *client.Message) {})
	require.ErrorIs(t, err, wire.CodeInvalid)
	_, err = c.Ping(within(t))
	require.NoError(t, err, "the connection lives")
}

func TestAListenerHasWorkersAndRoom(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	_, err := c.Listen(within(t), "a", client.ListenOptions{Workers: -1}, func(context.Context, *client.Message) {})
	require.ErrorContains(t, err, "must not be negative")
	_, err = c.Listen(within(t), "a", client.ListenOptions{MaxPendingBytes: -1}, func(context.Context, *client.Message) {})
	require.ErrorContains(t, err, "must not be negative")
}

func TestRequestAndReply(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		_, err := c.Request(within(t), &client.Message{Subject: "echo", Value: []byte("hi")})
		require.ErrorIs(t, err, client.ErrNoResponders)
		_, err = c.Reply(within(t), "echo", client.ListenOptions{Queue: "crew", Workers: 4}, func(_ context.Context, m *client.Message) ([]byte, error) {
			if string(m.Value) == "bad" {
				return nil, errors.New("no\nway")
			}
			return m.Value, nil
		})
		require.NoError(t, err)
		done := make(chan error, 200)
		for i := range cap(done) {
			go func() {
				m, err := c.Request(within(t), &client.Message{Subject: "echo", Value: []byte(value(i))})
				if err == nil && string(m.Value) != value(i) {
					err = fmt.Errorf("%s for %d", m.Value, i)
				}
				done <- err
			}()
		}
		for range cap(done) {
			require.NoError(t, <-done)
		}
		_, err = c.Request(within(t), &client.Message{Subject: "echo", Value: []byte("bad")})
		var failed *client.ReplyError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, client.ReplyError{Code: "500", Detail: "no way"}, *failed)

		silent, err := c.Listen(within(t), "silent", client.ListenOptions{}, func(context.Context, *client.Message) {})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
		defer cancel()
		_, err = c.Request(ctx, &client.Message{Subject: "silent"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, silent.Close())

		_, err = c.CreateTopic(within(t), "jobs", client.TopicOptions{Settings: []wire.Setting{{Key: "subjects", Value: "jobs.>"}}})
		require.NoError(t, err)
		m, err := c.Request(within(t), &client.Message{Subject: "jobs.eu", Value: []byte("x")})
		require.NoError(t, err)
		require.Contains(t, string(m.Value), `{"topic":"jobs","partition":0,"offset":0,`)
	})
}

// Requests and answers cross between the Go client and NATS clients.
func TestRequestsWithNATSClients(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	c := connect(t, b, client.Options{})
	nc, err := nats.Connect("nats://" + b.Addr)
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Subscribe("theirs", func(m *nats.Msg) { _ = m.Respond(append(m.Data, '!')) })
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	m, err := c.Request(within(t), &client.Message{Subject: "theirs", Value: []byte("hi")})
	require.NoError(t, err)
	require.Equal(t, "hi!", string(m.Value))
	_, err = c.Reply(within(t), "ours", client.ListenOptions{}, func(_ context.Context, m *client.Message) ([]byte, error) {
		return append(m.Value, m.Header("X")...), nil
	})
	require.NoError(t, err)
	answer, err := nc.RequestMsg(&nats.Msg{Subject: "ours", Data: []byte("a"), Header: nats.Header{"X": {"b"}}}, 20*time.Second)
	require.NoError(t, err)
	require.Equal(t, "ab", string(answer.Data))
	_, err = nc.Request("nobody", nil, 20*time.Second)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

// cutter is a dialer whose connections can be cut.
type cutter struct {
	dial func(ctx context.Context, addr string) (net.Conn, error)
	last atomic.Pointer[io.Closer]
}

func (c *cutter) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, addr)
	if err == nil {
		closer := io.Closer(conn)
		c.last.Store(&closer)
	}
	return conn, err
}

func (c *cutter) cut() { _ = (*c.last.Load()).Close() }

func TestListenersSurviveConnections(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	wire := &cutter{dial: b.Dial}
	c := connect(t, b, client.Options{Dialer: wire.Dial})
	got := make(chan *client.Message, 100)
	_, err := c.Listen(within(t), "a", client.ListenOptions{}, func(_ context.Context, m *client.Message) { got <- m })
	require.NoError(t, err)
	_, err = c.Listen(within(t), "never", client.ListenOptions{}, func(_ context.Context, m *client.Message) { got <- m })
	require.NoError(t, err)
	asked := make(chan error, 1)
	go func() {
		_, err := c.Request(within(t), &client.Message{Subject: "never"})
		asked <- err
	}()
	other := connect(t, b, client.Options{Dialer: b.Dial})
	require.Equal(t, "never", next(t, got).Subject)
	for range 3 {
		wire.cut()
		require.Eventually(t, func() bool {
			require.NoError(t, other.Send(within(t), &client.Message{Subject: "a", Value: []byte("again")}))
			select {
			case m := <-got:
				return string(m.Value) == "again"
			case <-time.After(time.Millisecond):
				return false
			}
		}, 20*time.Second, time.Millisecond)
	}
	require.ErrorIs(t, <-asked, client.ErrUnknownOutcome)
}

func TestCloseHandlesWhatArrived(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	var handled atomic.Int64
	begin := make(chan struct{})
	_, err := c.Listen(within(t), "a", client.ListenOptions{}, func(context.Context, *client.Message) {
		<-begin
		handled.Add(1)
	})
	require.NoError(t, err)
	for range 20 {
		require.NoError(t, c.Send(within(t), &client.Message{Subject: "a"}))
	}
	_, err = c.Ping(within(t))
	require.NoError(t, err)
	close(begin)
	require.NoError(t, c.Close(within(t)))
	require.EqualValues(t, 20, handled.Load())
	_, err = c.Listen(within(t), "a", client.ListenOptions{}, func(context.Context, *client.Message) {})
	require.ErrorIs(t, err, client.ErrClosed)
}

// A service that stops in an orderly way loses no request: those that it was given it answers, and others get the rest.
func TestAListenerThatClosesAnswersWhatItWasGiven(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	answer := func(_ context.Context, m *client.Message) ([]byte, error) { return m.Value, nil }
	o := client.ListenOptions{Queue: "q"}
	stays := connect(t, b, client.Options{Dialer: b.Dial})
	_, err := stays.Reply(within(t), "a", o, answer)
	require.NoError(t, err)
	stop, end := context.WithCancel(within(t))
	var asking sync.WaitGroup
	for range 4 {
		c := connect(t, b, client.Options{Dialer: b.Dial})
		asking.Go(func() {
			for stop.Err() == nil {
				ctx, cancel := context.WithTimeout(within(t), 5*time.Second)
				_, err := c.Request(ctx, &client.Message{Subject: "a", Value: []byte("v")})
				cancel()
				if err != nil {
					t.Errorf("a request was not answered: %v", err)
					return
				}
			}
		})
	}
	for i := range 200 {
		c := connect(t, b, client.Options{Dialer: b.Dial})
		l, err := c.Reply(within(t), "a", o, answer)
		require.NoError(t, err)
		_, err = c.Ping(within(t))
		require.NoError(t, err)
		if i%2 == 0 {
			require.NoError(t, l.Close())
		}
		require.NoError(t, c.Close(within(t)))
	}
	end()
	asking.Wait()
}

func TestCloseSendsWhatWasSent(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	hears := connect(t, b, client.Options{Dialer: b.Dial})
	var heard atomic.Int64
	_, err := hears.Listen(within(t), "a", client.ListenOptions{}, func(context.Context, *client.Message) { heard.Add(1) })
	require.NoError(t, err)
	for range 20 {
		c := connect(t, b, client.Options{Dialer: b.Dial})
		for range 500 {
			require.NoError(t, c.Send(within(t), &client.Message{Subject: "a", Value: make([]byte, 1000)}))
		}
		require.NoError(t, c.Close(within(t)))
	}
	require.Eventually(t, func() bool { return heard.Load() == 10_000 }, 20*time.Second, time.Millisecond)
}

func TestSlowListenersDropAndSaySo(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	errs := make(chan error, 10)
	c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(err error) { errs <- err }})
	release := make(chan struct{})
	l, err := c.Listen(within(t), "a", client.ListenOptions{MaxPendingBytes: 10_000}, func(context.Context, *client.Message) { <-release })
	require.NoError(t, err)
	for range 100 {
		require.NoError(t, c.Send(within(t), &client.Message{Subject: "a", Value: make([]byte, 1000)}))
	}
	require.ErrorIs(t, <-errs, client.ErrSlowListener)
	close(release)
	require.NoError(t, l.Close())
}

// users returns a policy with one user, whose password is p.
func users(t *testing.T, p *auth.Permissions) *auth.Policy {
	t.Helper()
	policy, err := auth.New(auth.Config{Users: []auth.User{{Name: "u", Password: "p", Permissions: p}}})
	require.NoError(t, err)
	return policy
}

// The subscription to the answers is made again when a right that it needs comes back.
func TestRequestsComeBackWithTheirRight(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Auth: users(t, nil)}})
	c := connect(t, b, client.Options{Dialer: b.Dial, User: "u", Password: "p"})
	_, err := c.Reply(within(t), "echo", client.ListenOptions{}, func(_ context.Context, m *client.Message) ([]byte, error) { return m.Value, nil })
	require.NoError(t, err)
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Request(ctx, &client.Message{Subject: "echo", Value: []byte("v")})
		return err
	}
	require.NoError(t, ask())
	b.Server.SetAuth(users(t, &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"_INBOX.>"}}}))
	require.Eventually(t, func() bool { return errors.Is(ask(), wire.CodeForbidden) }, 20*time.Second, time.Millisecond)
	b.Server.SetAuth(users(t, nil))
	require.NoError(t, ask())
}

func TestListenersEndWithTheirRight(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Auth: users(t, nil)}})
	c := connect(t, b, client.Options{Dialer: b.Dial, User: "u", Password: "p"})
	l, err := c.Listen(within(t), "a", client.ListenOptions{}, func(context.Context, *client.Message) {})
	require.NoError(t, err)
	b.Server.SetAuth(users(t, &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"a"}}}))
	<-l.Done()
	require.ErrorIs(t, l.Close(), wire.CodeForbidden)
	_, err = c.Listen(within(t), "a", client.ListenOptions{}, func(context.Context, *client.Message) {})
	require.ErrorIs(t, err, wire.CodeForbidden)
}
