package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestAReplyCutAtEveryByteLosesNothing(t *testing.T) {
	reply := encodeFrame(wire.OpPublish|wire.OpReply, wire.Flags(wire.LevelDisk), 0, wire.PublishReply{Base: 300}.Append(nil, 0))
	b := startBroker(t)
	b.create("t", 1)
	cut := -1
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish || cut < 0 {
			return false
		}
		r := slices.Clone(reply)
		copy(r[6:], []byte{byte(f.Correlation), byte(f.Correlation >> 8), 0, 0})
		c.send(r[:cut])
		_ = c.nc.Close()
		return true
	})
	c := dial(t, b, Options{NoIdempotence: true})
	for at := range reply {
		b.mu.Lock()
		cut = at
		b.mu.Unlock()
		_, err := c.Publish(within(t), &Message{Topic: "t"})
		require.ErrorIs(t, err, ErrUnknownOutcome, "cut at %d", at)
		require.ErrorIs(t, err, ErrConnectionLost)
		b.mu.Lock()
		cut = -1
		b.mu.Unlock()
		r, err := c.Publish(within(t), &Message{Topic: "t"})
		require.NoError(t, err)
		require.Equal(t, uint64(at), r.Offset)
	}
}

func TestALoginCutAtEveryByteIsAnError(t *testing.T) {
	f := wire.HelloReply{ServerName: "x", MaxFrame: wire.MaxFrameBytes}
	whole := append([]byte("INFO {}\r\n"), encodeFrame(wire.OpHello|wire.OpReply, 0, 0, f.Append(nil))...)
	answer := func(n int) error {
		dialer := func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				go func() { _, _ = io.Copy(io.Discard, theirs) }()
				_, _ = theirs.Write(whole[:n])
				if n < len(whole) {
					_ = theirs.Close()
				}
			}()
			return ours, nil
		}
		c, err := Dial(within(t), "", Options{Dialer: dialer})
		if err == nil {
			require.NoError(t, c.Close(within(t)))
		}
		return err
	}
	for n := range whole {
		require.Error(t, answer(n), "cut at %d", n)
	}
	require.NoError(t, answer(len(whole)))
}

// dialScript dials a peer that says exactly this.
func dialScript(t *testing.T, o Options, says []byte) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = nc.Write(says)
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
		_ = nc.Close()
	})
	c, err := Dial(within(t), ln.Addr().String(), o)
	if err == nil {
		_ = c.Close(within(t))
	}
	_ = ln.Close()
	wg.Wait()
	return err
}

func TestWhoeverIsNotABrokerIsRecognised(t *testing.T) {
	f := func(says string, want error, mentions string) {
		t.Helper()
		err := dialScript(t, Options{}, []byte(says))
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, mentions)
	}
	f("HTTP/1.1 400 Bad Request\r\n\r\n", ErrProtocol, "HTTP")
	f("", io.EOF, "rafkas://")
	f("\x15\x03\x01\x00\x02\x02\x46", ErrProtocol, "rafkas://")
	f("INFO "+string(make([]byte, maxInfo+10)), ErrProtocol, "greeting")
	f("INFO {}\r\n"+string(encodeFrame(wire.OpPing|wire.OpReply, 0, 0, nil)), ErrProtocol, "ping")
	f("INFO {}\r\n"+string(encodeFrame(wire.OpHello|wire.OpReply, 0, 0, []byte{1})), ErrProtocol, "malformed")
	refused := wire.AppendError(nil, wire.OpHello, 0, wire.Errorf(wire.CodeUnauthenticated, "who are you"))
	f("INFO {}\r\n"+string(refused), wire.CodeUnauthenticated, "who are you")
	f(string(refused), wire.CodeUnauthenticated, "hello") // without a greeting
	f("INFO {}\r\n-ERR 'maximum connections exceeded'\r\n", wire.CodeLimit, "maximum connections exceeded")
	err := dialScript(t, Options{TLS: &tls.Config{}}, []byte("INFO {}\r\n-ERR 'Unknown Protocol Operation'\r\n"))
	require.ErrorContains(t, err, "does not use TLS (rafka://127.0.0.1")
}

func TestDialTriesEveryAddressAndSaysWhatHappened(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := ln.Addr().String()
	require.NoError(t, ln.Close())
	_, err = Dial(within(t), dead+","+dead, Options{})
	require.ErrorContains(t, err, "connect to "+dead)

	b := startBroker(t)
	c, err := Dial(within(t), dead+","+b.addr(), Options{User: "me", Password: "pw"})
	require.NoError(t, err)
	s, up := c.Server()
	require.True(t, up)
	require.Equal(t, Server{Addr: b.addr(), Name: "fake", Version: "0.0"}, s)
	require.Equal(t, "plain", b.hellos[0].Mechanism)
	require.Equal(t, "me\x00pw", string(b.hellos[0].Credentials))
	require.NoError(t, c.Close(within(t)))
	_, up = c.Server()
	require.False(t, up)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, silent.Addr().String(), Options{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestMessagesThatWaitAreSentAfterAReconnect(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var connects, disconnects atomic.Int32
	c := dial(t, b, Options{
		NoIdempotence: true,
		MaxBatchBytes: 200,
		OnConnect:     func(Server) { connects.Add(1) },
		OnDisconnect:  func(error) { disconnects.Add(1) },
	})
	_, err := c.Publish(within(t), &Message{Topic: "t", Value: []byte(text(0))})
	require.NoError(t, err)
	b.mu.Lock() // the broker is stuck, then cuts the connection with publishes in flight
	var outcomes [101]error
	var wg sync.WaitGroup
	wg.Add(100)
	for i := 1; i <= 100; i++ {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, func(_ Receipt, err error) {
			outcomes[i] = err
			wg.Done()
		}))
	}
	for fc := range b.conns {
		_ = fc.nc.Close()
	}
	b.mu.Unlock()
	wg.Wait()
	stored := b.values("t", 0)
	require.True(t, slices.IsSortedFunc(stored, func(a, b string) int { return len(a) - len(b) }))
	unknown := 0
	for i, err := range outcomes {
		if err == nil {
			require.Contains(t, stored, text(i))
			continue
		}
		require.ErrorIs(t, err, ErrUnknownOutcome)
		unknown++
	}
	require.Less(t, unknown, 100)
	require.Equal(t, int32(2), connects.Load())
	require.Equal(t, int32(1), disconnects.Load())
}

func TestOrderAndOutcomesHoldWhileTheConnectionBreaksAgainAndAgain(t *testing.T) {
	b := startBroker(t)
	b.create("t", 2)
	c := dial(t, b, Options{NoIdempotence: true, MaxBatchBytes: 300})
	var mu sync.Mutex
	acked := [2][]string{}
	left := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-left:
				return
			case <-time.After(3 * time.Millisecond):
				b.cut()
			}
		}
	})
	const n = 20_000
	for i := range n {
		p := i % 2
		v := text(i)
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(v), Partition: p, Pinned: true}, func(_ Receipt, err error) {
			if err != nil {
				require.ErrorIs(t, err, ErrUnknownOutcome)
				return
			}
			mu.Lock()
			acked[p] = append(acked[p], v)
			mu.Unlock()
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	close(left)
	wg.Wait()
	for p := range 2 {
		stored := b.values("t", p)
		at := 0
		for _, v := range acked[p] { // a subsequence: nothing acknowledged is missing, twice or out of order
			for at < len(stored) && stored[at] != v {
				at++
			}
			require.Less(t, at, len(stored), v)
			at++
		}
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(stored))), len(stored))
	}
}

// A publish may still hold a topic that was dropped, and learn that another one of its name has more
// partitions. A message that went there would be nobody's: neither Flush nor Close would know of it.
func TestADroppedTopicTakesNoMessagesInLaterPartitions(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
	old, err := c.producer.topic(within(t), "t")
	require.NoError(t, err)
	c.producer.drop(old, errOtherTopic)
	larger := *old.binding.Load()
	larger.Partitions = 2
	old.bind(&larger)
	for _, l := range *old.lanes.Load() {
		require.False(t, l.add(&Message{Topic: "t"}, nil, batchKind{}, messageBytes, false, nil, nil), "partition %d", l.partition)
	}
}

// Flush waits for the callbacks of a topic that the client has just dropped. Dropped topics are not kept after that.
func TestFlushWaitsForADroppedTopic(t *testing.T) {
	for _, m := range []Message{{Topic: "t"}, {Topic: "t", Delay: time.Hour}} {
		b := startBroker(t)
		b.create("t", 1)
		c := dial(t, b, Options{Linger: time.Hour})
		running, release, dropped := make(chan struct{}), make(chan struct{}), make(chan struct{})
		require.NoError(t, c.PublishAsync(within(t), &m, func(_ Receipt, err error) {
			require.ErrorIs(t, err, wire.CodeTopicDeleted)
			close(running)
			<-release
		}))
		old, err := c.producer.topic(within(t), "t")
		require.NoError(t, err)
		go func() {
			defer close(dropped)
			c.producer.drop(old, errOtherTopic)
		}()
		<-running
		soon, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
		require.ErrorIs(t, c.Flush(soon), context.DeadlineExceeded)
		cancel()
		close(release)
		require.NoError(t, c.Flush(within(t)))
		<-dropped
		c.producer.drop(old, errOtherTopic)
		require.Empty(t, c.producer.ending)
	}
}

func TestASilentConnectionIsReplaced(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var silent atomic.Pointer[fakeConn]
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			silent.CompareAndSwap(nil, c)
		}
		return silent.Load() == c
	})
	stalls := make(chan Stall, 10)
	c := dial(t, b, Options{NoIdempotence: true, PingInterval: 20 * time.Millisecond, OnStall: func(s Stall) {
		select {
		case stalls <- s:
		default:
		}
	}})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.ErrorIs(t, err, ErrUnknownOutcome)
	for s := range stalls {
		if s.What == "ping" {
			break
		}
	}
	_, err = c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
}

func TestAPublishThatIsNotAnsweredIsAStall(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool { return f.Op == wire.OpPublish })
	stalls := make(chan Stall, 10)
	b.hello.IdleMs = 60 // asks for more pings than the client would send
	c := dial(t, b, Options{OnStall: func(s Stall) { stalls <- s }})
	require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t"}, nil))
	s := <-stalls
	require.Equal(t, "publish", s.What)
	require.Positive(t, s.For)
}

func TestTheBrokersPingsAreAnswered(t *testing.T) {
	b := startBroker(t)
	pong := make(chan []byte, 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		switch f.Op {
		case wire.OpStats:
			c.send(encodeFrame(wire.OpPing, 0, 9, []byte("echo")))
		case wire.OpPing | wire.OpReply:
			pong <- slices.Clone(f.Body)
			return true
		}
		return false
	})
	c := dial(t, b, Options{})
	_, err := c.Stats(within(t))
	require.NoError(t, err)
	require.Equal(t, "echo", string(<-pong))
}

func TestANoticeDrainsTheConnection(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var first atomic.Pointer[fakeConn]
	var held wire.Frame
	noticed := make(chan struct{})
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish || !first.CompareAndSwap(nil, c) {
			require.False(t, f.Op == wire.OpPublish && first.Load() == c, "a publish after the notice")
			return false
		}
		held = wire.Frame{Op: f.Op, Flags: f.Flags, Correlation: f.Correlation, Body: slices.Clone(f.Body)}
		n := wire.Notice{Code: wire.CodeShutdown, GraceMs: 1000, Detail: "bye"}
		c.send(encodeFrame(wire.OpNotice, 0, 0, n.Append(nil)))
		close(noticed)
		return true
	})
	c := dial(t, b, Options{})
	var wg sync.WaitGroup
	publish := func() {
		wg.Go(func() {
			_, err := c.Publish(within(t), &Message{Topic: "t"})
			require.NoError(t, err)
		})
	}
	publish()
	<-noticed
	eventually(t, func() bool {
		cn := c.conn.Load()
		if cn == nil {
			return false
		}
		cn.mu.Lock()
		defer cn.mu.Unlock()
		return cn.draining
	})
	publish() // waits for the next connection
	first.Load().handle(held)
	wg.Wait()
	require.Len(t, b.values("t", 0), 2)
	require.Equal(t, 2, b.count(wire.OpHello))
}

// Of several brokers one that refuses the login does not stand for the others, even if those are down for the moment.
func TestALoginThatOneBrokerRefusesIsTriedAtTheOthers(t *testing.T) {
	refusing, b := startBroker(t), startBroker(t)
	refusing.setHook(func(c *fakeConn, f wire.Frame) bool {
		c.fail(f, wire.Errorf(wire.CodeUnauthenticated, "login refused"))
		return true
	})
	var down atomic.Bool
	failed := make(chan error, 100)
	c, err := Dial(within(t), refusing.addr()+","+b.addr(), Options{
		ReconnectMin: time.Millisecond, ReconnectMax: time.Millisecond,
		OnError: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
		Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == b.addr() && down.Load() {
				return nil, errors.New("down")
			}
			return dialTCP(ctx, addr)
		},
	})
	require.NoError(t, err)
	down.Store(true)
	b.cut()
	require.ErrorIs(t, <-failed, wire.CodeUnauthenticated)
	down.Store(false)
	_, err = c.Ping(within(t))
	require.NoError(t, err)
	require.NoError(t, c.Close(within(t)))
}

func TestALoginThatIsRefusedForGoodEndsTheClient(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, "x")
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, read(t, k, 1))
	_, err = q.Fetch(within(t), 1)
	require.NoError(t, err)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpHello {
			c.fail(f, wire.Errorf(wire.CodeForbidden, "locked out"))
		}
		return f.Op == wire.OpHello
	})
	b.cut()
	for _, try := range []func() error{
		func() error { _, err := c.Publish(within(t), &Message{Topic: "new"}); return err },
		func() error { _, err := k.Next(within(t)); return err },
		func() error { _, err := q.Fetch(within(t), 1); return err },
		func() error { return c.Run(within(t), Group("g", "t"), ignore) },
		func() error { _, err := c.Stats(within(t)); return err },
	} {
		require.ErrorIs(t, try(), wire.CodeForbidden)
	}
	require.NoError(t, c.Close(within(t)))
}

func TestRequestsAreRepeatedOnlyWhenThatIsSafe(t *testing.T) {
	b := startBroker(t)
	var op atomic.Uint32
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.Op(op.Load()) {
			op.Store(0)
			_ = c.nc.Close()
			return true
		}
		return false
	})
	c := dial(t, b, Options{})
	breakNext := func(o wire.Op) { op.Store(uint32(o)) }
	breakNext(wire.OpCreateTopic)
	_, err := c.EnsureTopic(within(t), "t", TopicOptions{})
	require.NoError(t, err)
	breakNext(wire.OpCreateTopic)
	_, err = c.CreateTopic(within(t), "u", TopicOptions{})
	require.ErrorIs(t, err, ErrUnknownOutcome)
	breakNext(wire.OpDeleteTopic)
	require.ErrorIs(t, c.DeleteTopic(within(t), "t"), ErrUnknownOutcome)
	breakNext(wire.OpFetch)
	_, err = c.Fetch(within(t), FetchRequest{Topic: "t"})
	require.NoError(t, err)
	breakNext(wire.OpCommit)
	require.NoError(t, c.Commit(within(t), "g", "t", map[int]uint64{0: 0}))
	require.Zero(t, op.Load())
}

func TestARequestThatIsNeverAnsweredTimesOut(t *testing.T) {
	b := startBroker(t)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool { return f.Op == wire.OpStats || f.Op == wire.OpDeleteTopic })
	c := dial(t, b, Options{RequestTimeout: 30 * time.Millisecond})
	_, err := c.Stats(context.Background())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, ErrUnknownOutcome)
	require.ErrorIs(t, c.DeleteTopic(context.Background(), "t"), ErrUnknownOutcome)
	b.close()
	eventually(t, func() bool { _, up := c.Server(); return !up })
	err = c.DeleteTopic(context.Background(), "t")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, ErrUnknownOutcome) // it was not sent
}

func TestALyingBrokerIsCutOff(t *testing.T) {
	f := func(name string, says func(c *fakeConn, f wire.Frame)) {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			b.create("t", 1)
			var once sync.Once
			b.setHook(func(c *fakeConn, f wire.Frame) bool {
				hit := false
				if f.Op == wire.OpStats {
					once.Do(func() { hit = true; says(c, f) })
				}
				return hit
			})
			reasons := make(chan error, 10)
			c := dial(t, b, Options{OnDisconnect: func(err error) { reasons <- err }})
			_, err := c.Stats(within(t))
			require.NoError(t, err, "repeated on the next connection")
			require.Error(t, <-reasons)
		})
	}
	f("an acknowledgement of nothing", func(c *fakeConn, f wire.Frame) {
		c.send(encodeFrame(wire.OpPublish|wire.OpReply, 0, 4711, wire.PublishReply{}.Append(nil, 0)))
	})
	f("a range over everything", func(c *fakeConn, f wire.Frame) {
		body := wire.PublishReply{Extra: 1<<32 - 1}.Append(nil, wire.FlagRange)
		c.send(encodeFrame(wire.OpPublish|wire.OpReply, wire.FlagRange, f.Correlation, body))
	})
	f("a reply to no request", func(c *fakeConn, f wire.Frame) { c.send(encodeFrame(wire.OpStats|wire.OpReply, 0, 4711, nil)) })
	f("a reply of another kind", func(c *fakeConn, f wire.Frame) {
		c.reply(wire.Frame{Op: wire.OpPing, Correlation: f.Correlation}, 0, nil)
	})
	f("a request", func(c *fakeConn, f wire.Frame) { c.send(encodeFrame(wire.OpFetch, 0, 1, nil)) })
	f("a bad error", func(c *fakeConn, f wire.Frame) { c.reply(f, wire.FlagError, []byte{1}) })
	f("a bad notice", func(c *fakeConn, f wire.Frame) { c.send(encodeFrame(wire.OpNotice, 0, 1, nil)) })
	f("a malformed frame", func(c *fakeConn, f wire.Frame) { c.send([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}) })
	f("an endless frame", func(c *fakeConn, f wire.Frame) { c.send([]byte{255, 255, 255, 255, 0, 0, 0, 0, 0, 0}) })
	f("an error about the connection", func(c *fakeConn, f wire.Frame) {
		c.send(wire.AppendError(nil, 0, 0, wire.Errorf(wire.CodeMalformed, "what?")))
	})
}

func TestALyingSubscriptionIsCutOff(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	n := 0
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpSubscribe {
			return false
		}
		if n++; n > 2 {
			return false
		}
		c.reply(f, 0, wire.SubscribeReply{}.Append(nil))
		switch n {
		case 1:
			c.send(encodeFrame(wire.OpDeliver, 0, f.Correlation, nil))
		case 2: // backwards
			c.send(encodeFrame(wire.OpDeliver, 0, f.Correlation, (&wire.Entries{Next: 2}).Append(nil)))
			c.send(encodeFrame(wire.OpDeliver, 0, f.Correlation, (&wire.Entries{Next: 1}).Append(nil)))
		}
		return true
	})
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	require.Equal(t, []string{text(2)}, read(t, k, 1))
}

func TestCloseSendsWhatWasPublished(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{Linger: time.Hour})
	for i := range 100 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, nil))
	}
	require.NoError(t, c.Close(within(t)))
	require.NoError(t, c.Close(within(t)))
	require.Equal(t, texts(100), b.values("t", 0))
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.Subscribe(within(t), Subscription{Topic: "t"})
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.Stats(within(t))
	require.ErrorIs(t, err, ErrClosed)
}

// Whatever is published while Close runs is either refused or stored.
func TestCloseSendsWhatIsPublishedMeanwhile(t *testing.T) {
	for range 20 {
		b := startBroker(t)
		b.create("t", 2)
		c := dial(t, b, Options{})
		var stored, failed atomic.Int64
		done := func(_ Receipt, err error) {
			if err != nil {
				failed.Add(1)
				return
			}
			stored.Add(1)
		}
		var accepted atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					m := &Message{Topic: "t", Key: []byte(text(i)), Value: []byte("v")}
					if err := c.PublishAsync(context.Background(), m, done); err != nil {
						require.ErrorIs(t, err, ErrClosed)
						return
					}
					accepted.Add(1)
				}
			})
		}
		eventually(t, func() bool { return stored.Load() > 0 })
		require.NoError(t, c.Close(within(t)))
		wg.Wait()
		require.Zero(t, failed.Load())
		require.Equal(t, accepted.Load(), stored.Load())
	}
}

// Whatever is sent to a subject while Close runs is either refused or reaches the broker.
func TestCloseSendsWhatIsSentMeanwhile(t *testing.T) {
	for range 20 {
		b := startBroker(t)
		var arrived, accepted atomic.Int64
		b.setHook(func(_ *fakeConn, f wire.Frame) bool {
			if f.Op == wire.OpSend {
				arrived.Add(1)
			}
			return f.Op == wire.OpSend
		})
		c := dial(t, b, Options{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if err := c.Send(context.Background(), &Message{Subject: "s", Value: []byte("v")}); err != nil {
						require.ErrorIs(t, err, ErrClosed)
						return
					}
					accepted.Add(1)
				}
			})
		}
		eventually(t, func() bool { return arrived.Load() > 0 })
		require.NoError(t, c.Close(within(t)))
		wg.Wait()
		require.Equal(t, accepted.Load(), arrived.Load())
	}
}

func TestCloseDoesNotWaitLongerThanItsContext(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool { return f.Op == wire.OpPublish })
	c := dial(t, b, Options{MaxInFlight: 1, MaxBatchBytes: 10})
	var outcomes []error
	for range 3 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte("0123456789")}, func(_ Receipt, err error) {
			outcomes = append(outcomes, err)
		}))
	}
	eventually(t, func() bool { return b.count(wire.OpPublish) == 1 })
	ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Close(ctx), context.DeadlineExceeded)
	require.Len(t, outcomes, 3)
	require.ErrorIs(t, outcomes[0], ErrUnknownOutcome)
	require.ErrorIs(t, outcomes[0], ErrClosed)
	require.Equal(t, []error{ErrClosed, ErrClosed}, outcomes[1:])
}

// tlsPair makes a certificate for 127.0.0.1 and the pool that trusts it.
func tlsPair(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLSStartsBehindTheGreeting(t *testing.T) {
	cert, pool := tlsPair(t)
	b := startBroker(t)
	b.create("t", 1)
	for _, greeting := range []string{"INFO {\"tls\":true}\r\n", ""} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				if _, err := io.WriteString(nc, greeting); err != nil {
					return
				}
				wg.Go(func() { b.serve(tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})) })
			}
		})
		c, err := Dial(within(t), "rafkas://"+ln.Addr().String(), Options{TLS: &tls.Config{RootCAs: pool}})
		require.NoError(t, err)
		_, err = c.Publish(within(t), &Message{Topic: "t", Value: make([]byte, 100_000)})
		require.NoError(t, err)
		require.NoError(t, c.Close(within(t)))
		_, err = Dial(within(t), "rafkas://"+ln.Addr().String(), Options{})
		require.ErrorContains(t, err, "tls")
		require.NoError(t, ln.Close())
		b.cut()
		wg.Wait()
	}
	_, err := Dial(within(t), "rafkas://"+b.addr(), Options{})
	require.ErrorContains(t, err, "TLS")
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("INFO {}\r\n"), uint8(3))
	f.Add(append([]byte("INFO x\r\n"), encodeFrame(1, 0, 1, []byte("body"))...), uint8(1))
	f.Add(encodeFrame(wire.OpDeliver, 0, 7, make([]byte, largeFrame+100)), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		line := &greeted{Conn: &slowConn{r: bytes.NewReader(b), step: int(step) + 1}}
		fr := newFrameReader(line, new(bufferPool))
		fr.limit = 1 << 20
		for {
			fm, err := fr.next()
			if err != nil {
				return
			}
			if fm.Correlation%2 == 0 {
				kept := fm.keep()
				require.Len(t, kept.body, len(fm.Body))
			}
			fr.recycle(&fm)
		}
	})
}

// slowConn hands out its bytes in small steps.
type slowConn struct {
	net.Conn
	r    io.Reader
	step int
}

func (c *slowConn) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.step)]) }

func TestFramesOfEverySizeAreRead(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 100, largeFrame - 11, largeFrame, largeFrame + 1, 5, readBytes, readBytes + 7, 3}
	for i, n := range sizes {
		stream = append(stream, encodeFrame(wire.OpDeliver, 0, uint32(i), bytes.Repeat([]byte{byte(i)}, n))...)
	}
	for _, step := range []int{1 << 20, 4096, 7} {
		pool := new(bufferPool)
		fr := newFrameReader(&slowConn{r: bytes.NewReader(stream), step: step}, pool)
		for i, n := range sizes {
			f, err := fr.next()
			require.NoError(t, err)
			require.Equal(t, uint32(i), f.Correlation)
			b := f.keep()
			require.Equal(t, bytes.Repeat([]byte{byte(i)}, n), b.body)
			fr.recycle(&f)
			pool.put(b)
		}
		_, err := fr.next()
		require.True(t, errors.Is(err, io.EOF))
	}
}

// sizedReads notes how much each read asks for.
type sizedReads struct {
	io.Reader
	asked []int
}

func (r *sizedReads) Read(p []byte) (int, error) {
	r.asked = append(r.asked, len(p))
	return r.Reader.Read(p)
}

// Large frames that follow each other are read into their own memory, but for a few bytes.
func TestLargeFramesAreReadInPlace(t *testing.T) {
	const n = 8 * largeFrame
	var stream []byte
	for i := range 5 {
		stream = append(stream, encodeFrame(wire.OpDeliver, 0, uint32(i), make([]byte, n))...)
	}
	src := &sizedReads{Reader: bytes.NewReader(stream)}
	fr := newFrameReader(src, new(bufferPool))
	for range 5 {
		f, err := fr.next()
		require.NoError(t, err)
		fr.recycle(&f)
	}
	rest := n + wire.HeaderBytes - smallRead
	require.Equal(t, []int{readBytes, n + wire.HeaderBytes - readBytes, smallRead, rest, smallRead, rest, smallRead, rest, smallRead, rest}, src.asked)
}

// A numbered publish is sent again after a reconnect. When none comes, it ends all the same.
func TestAPublishThatWasCutEndsWithoutAReconnect(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish {
			return false
		}
		_ = b.ln.Close()
		_ = c.nc.Close()
		return true
	})
	c := dial(t, b, Options{RequestTimeout: time.Second})
	ended := make(chan error, 1)
	require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte("v")}, func(_ Receipt, err error) { ended <- err }))
	select {
	case err := <-ended:
		require.ErrorIs(t, err, ErrUnknownOutcome)
	case <-within(t).Done():
		require.Fail(t, "nobody is told")
	}
}

// A deadline that ends while there is no connection says so, and why there is none.
func TestAnErrorSaysThatThereIsNoConnection(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{})
	b.close()
	eventually(t, func() bool { _, up := c.Server(); return !up })
	f := func(what string, call func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		err := call(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, what+": no connection (")
	}
	f("describe_topic t", func(ctx context.Context) error { _, err := c.Topic(ctx, "t"); return err })
	f("send s", func(ctx context.Context) error { return c.Send(ctx, &Message{Subject: "s"}) })
	f("listen", func(ctx context.Context) error { _, err := c.Request(ctx, &Message{Subject: "s"}); return err })
}
