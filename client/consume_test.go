package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// read takes n messages from a consumer.
func read(t testing.TB, k *Consumer, n int) (got []string) {
	t.Helper()
	for range n {
		m, err := k.Next(within(t))
		require.NoError(t, err)
		got = append(got, string(m.Value))
	}
	return got
}

func TestASubscriptionReadsTheBacklogAndThenWhatComes(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 7, texts(100)...)
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t", From: At(10)})
	require.NoError(t, err)
	defer k.Close()
	require.Equal(t, texts(100)[10:], read(t, k, 90))
	for i := range 50 {
		_, err := c.Publish(within(t), &Message{Topic: "t", Value: []byte(text(100 + i))})
		require.NoError(t, err)
	}
	require.Equal(t, texts(150)[100:], read(t, k, 50))
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err = k.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	k.Close()
	_, err = k.Next(within(t))
	require.ErrorIs(t, err, ErrClosed)
}

func TestASubscriptionReadsFarMoreThanItsCredit(t *testing.T) {
	b := startBroker(t)
	b.create("t", 3)
	big := string(make([]byte, 20_000))
	for p := range 3 {
		b.fill("t", p, 3, slices.Repeat([]string{big}, 100)...)
	}
	b.fill("t", 0, 1, string(make([]byte, 200_000))) // over the credit alone
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t", CreditBytes: 1})
	require.NoError(t, err)
	defer k.Close()
	seen := map[int]uint64{}
	n := 0
	for m, err := range k.Messages(within(t)) {
		require.NoError(t, err)
		require.Equal(t, seen[m.Partition], m.Offset)
		seen[m.Partition]++
		if n++; n == 301 {
			break
		}
	}
	require.Equal(t, map[int]uint64{0: 101, 1: 100, 2: 100}, seen)
}

func TestASubscriptionLosesAndRepeatsNothingOverLostConnections(t *testing.T) {
	b := startBroker(t)
	b.create("t", 2)
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t", CreditBytes: 1})
	require.NoError(t, err)
	defer k.Close()
	const n = 4000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			b.fill("t", i%2, 1, text(i))
			if i%500 == 250 {
				b.cut()
			}
		}
	})
	next := map[int]int{0: 0, 1: 1}
	for range n {
		m, err := k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, text(next[m.Partition]), string(m.Value))
		next[m.Partition] += 2
	}
	wg.Wait()
	require.GreaterOrEqual(t, b.count(wire.OpHello), 2)
}

func TestDamageAndRetentionAreReportedAndSkipped(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 10, texts(50)...)
	corrupt, gone := true, true
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		var m wire.Subscribe
		if f.Op != wire.OpSubscribe || m.Parse(f.Body) != nil {
			return false
		}
		switch {
		case corrupt && m.From.Value == 0: // deliver ten, then find damage
			corrupt = false
			c.reply(f, 0, wire.SubscribeReply{}.Append(nil))
			c.b.mu.Lock()
			entries, next := topic.parts[0].from(0, 1)
			c.b.mu.Unlock()
			c.send(encodeFrame(wire.OpDeliver, 0, f.Correlation, (&wire.Entries{Next: next, Bytes: entries}).Append(nil)))
			we := wire.Errorf(wire.CodeCorruptRange, "bit rot")
			we.First, we.Next = 10, 20
			c.send(encodeFrame(wire.OpDeliver, wire.FlagError, f.Correlation, we.Append(nil)))
			return true
		case gone && m.From.Value == 20:
			gone = false
			we := wire.Errorf(wire.CodeOffsetOutOfRange, "retention")
			we.First, we.Next = 30, 50
			c.fail(f, we)
			return true
		}
		return false
	})
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	require.Equal(t, texts(10), read(t, k, 10))
	expect := func(code wire.Code, first, next uint64) {
		t.Helper()
		_, err := k.Next(within(t))
		var e *Error
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, code)
		require.Equal(t, []uint64{first, next}, []uint64{e.Err.First, e.Err.Next})
		require.Equal(t, 0, e.Partition)
	}
	expect(wire.CodeCorruptRange, 10, 20)
	expect(wire.CodeOffsetOutOfRange, 20, 30)
	require.Equal(t, texts(50)[30:], read(t, k, 20))
}

func TestASlowConsumerIsSubscribedAgain(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(20)...)
	n := 0
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpSubscribe {
			return false
		}
		if n++; n < 3 {
			c.reply(f, 0, wire.SubscribeReply{}.Append(nil))
			c.send(encodeFrame(wire.OpDeliver, wire.FlagError, f.Correlation, wire.Errorf(wire.CodeSlowConsumer, "").Append(nil)))
			return true
		}
		return false
	})
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	require.Equal(t, texts(20), read(t, k, 20))
}

func TestASubscriptionThatIsMadeAgainFindsItsTopicGone(t *testing.T) {
	for _, replaced := range []bool{true, false} {
		b := startBroker(t)
		b.create("t", 1)
		c := dial(t, b, Options{})
		b.setHook(func(fc *fakeConn, f wire.Frame) bool {
			if f.Op != wire.OpSubscribe {
				return false
			}
			b.setHook(nil)
			b.remove("t")
			if replaced {
				b.create("t", 1)
				b.fill("t", 0, 1, "of another topic")
			}
			cn := c.conn.Load()
			cn.forget(cn.bound("t"), "t") // as a producer does that was told so
			fc.reply(f, 0, wire.SubscribeReply{}.Append(nil))
			fc.send(encodeFrame(wire.OpDeliver, wire.FlagError, f.Correlation, wire.Errorf(wire.CodeSlowConsumer, "").Append(nil)))
			return true
		})
		k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
		require.NoError(t, err)
		_, err = k.Next(within(t))
		if replaced {
			require.ErrorIs(t, err, wire.CodeTopicDeleted)
		} else {
			require.ErrorIs(t, err, wire.CodeTopicNotFound)
		}
	}
}

// The topic is replaced between the question which partitions it has and those about their offsets.
func TestASubscriptionOfATopicThatIsReplacedReadsOneOfThem(t *testing.T) {
	replaced := func(partitions int) (*Consumer, error) {
		b := startBroker(t)
		b.create("t", 3)
		b.fill("t", 0, 1, "first")
		c := dial(t, b, Options{})
		b.setHook(func(_ *fakeConn, f wire.Frame) bool {
			if f.Op == wire.OpOffsets {
				b.setHook(nil)
				b.remove("t")
				b.create("t", partitions)
				b.fill("t", 0, 1, "second")
			}
			return false
		})
		return c.Subscribe(within(t), Subscription{Topic: "t"})
	}
	k, err := replaced(1)
	require.NoError(t, err)
	require.Equal(t, []string{"second"}, read(t, k, 1))

	k, err = replaced(4)
	require.NoError(t, err)
	_, err = k.Next(within(t))
	require.ErrorIs(t, err, wire.CodeTopicDeleted, "rather than to leave out a partition")
}

func TestASubscriptionEndsWithItsTopic(t *testing.T) {
	b := startBroker(t)
	b.create("t", 2)
	b.fill("t", 0, 1, "last words")
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, []string{"last words"}, read(t, k, 1))
	b.remove("t")
	for range 2 {
		_, err = k.Next(within(t))
		require.ErrorIs(t, err, wire.CodeTopicDeleted)
	}

	b.create("again", 1)
	k, err = c.Subscribe(within(t), Subscription{Topic: "again"})
	require.NoError(t, err)
	b.mu.Lock()
	b.createLocked("again", 1) // another incarnation, found after a reconnect
	b.mu.Unlock()
	b.cut()
	_, err = k.Next(within(t))
	require.ErrorIs(t, err, wire.CodeTopicDeleted)

	_, err = c.Subscribe(within(t), Subscription{Topic: "none"})
	require.ErrorIs(t, err, wire.CodeTopicNotFound)
}

func TestDamagedEntriesEndTheStream(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	topic.parts[0].entries[1][wire.StampBytes+6] ^= 1
	c := dial(t, b, Options{})
	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, texts(1), read(t, k, 1))
	_, err = k.Next(within(t))
	require.ErrorIs(t, err, wire.ErrEntry)
	_, err = c.Fetch(within(t), FetchRequest{Topic: "t"})
	require.ErrorIs(t, err, wire.ErrEntry)
}

func TestAGroupHandlesInOrderAndGoesOnWhereItCommitted(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 3)
	for p := range 3 {
		b.fill("t", p, 5, texts(100)...)
	}
	c := dial(t, b, Options{})
	var mu sync.Mutex
	seen := map[int][]string{}
	n := 0
	h := func(_ context.Context, m *Message) error {
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, m.Attempt)
		seen[m.Partition] = append(seen[m.Partition], string(m.Value))
		if n++; n == 150 || n == 300 {
			return ErrStop
		}
		return nil
	}
	s := Group("g", "t")
	s.Workers = 1
	require.NoError(t, c.Run(within(t), s, h))
	mu.Lock()
	done := map[uint16]uint64{0: 0, 1: 0, 2: 0}
	for p, got := range seen {
		done[uint16(p)] = uint64(len(got))
	}
	mu.Unlock()
	b.locked(func() {
		require.Equal(t, done, topic.committed["g"])
	})
	s.Workers = 4
	require.NoError(t, c.Run(within(t), s, h))
	for p := range 3 {
		require.Equal(t, texts(100), seen[p])
	}
}

func TestAGroupRetriesInPlace(t *testing.T) {
	b := startBroker(t)
	b.create("t", 2)
	b.fill("t", 0, 10, texts(20)...)
	b.fill("t", 1, 10, texts(20)...)
	c := dial(t, b, Options{})
	s := Group("g", "t")
	s.BackoffMin = time.Millisecond
	var mu sync.Mutex
	var first, second []string
	err := c.Run(within(t), s, func(_ context.Context, m *Message) error {
		mu.Lock()
		defer mu.Unlock()
		if m.Partition == 0 && m.Offset == 5 && m.Attempt < 4 {
			if m.Attempt == 2 {
				return RetryAfter(time.Millisecond, errors.New("not yet"))
			}
			return errors.New("no")
		}
		if m.Partition == 0 {
			first = append(first, string(m.Value))
		} else {
			second = append(second, string(m.Value))
		}
		if len(first)+len(second) == 40 {
			return ErrStop
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, texts(20), first)
	require.Equal(t, texts(20), second)
}

func TestAGroupGivesUpAfterMaxDeliveries(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 10, texts(5)...)
	var reported atomic.Int32
	c := dial(t, b, Options{OnError: func(error) { reported.Add(1) }})
	s := Group("g", "t")
	s.BackoffMin, s.MaxDeliveries, s.DeadLetter = time.Millisecond, 3, "dead"
	handled := 0
	err := c.Run(within(t), s, func(_ context.Context, m *Message) error {
		handled++
		switch m.Offset {
		case 1:
			return errors.New("always")
		case 2:
			return Reject(errors.New("poison"))
		case 4:
			return ErrStop
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 7, handled)
	require.Equal(t, int32(2), reported.Load())
	require.Equal(t, []string{text(1), text(2)}, b.values("dead", 0))
	f, err := c.Fetch(within(t), FetchRequest{Topic: "dead"})
	require.NoError(t, err)
	require.Equal(t, "always", string(f.Messages[0].Header("rafka-dead-reason")))
	f, err = c.Fetch(within(t), FetchRequest{Topic: "dead", From: At(1)})
	require.NoError(t, err)
	require.Equal(t, "poison", string(f.Messages[0].Header("rafka-dead-reason")))
	require.Equal(t, "2", string(f.Messages[0].Header("rafka-dead-offset")))
}

func TestNothingIsCommittedThatWasNotHandled(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 10, texts(10)...)
	c := dial(t, b, Options{})
	ctx, cancel := context.WithCancel(within(t))
	s := Group("g", "t")
	s.CommitInterval = time.Millisecond
	entered := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-entered
		eventually(t, func() bool { return b.count(wire.OpCommit) > 0 })
		cancel()
	})
	err := c.Run(ctx, s, func(ctx context.Context, m *Message) error {
		if m.Offset == 4 {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, map[uint16]uint64{0: 4}, topic.committed["g"])
}

func TestCloseLetsHandlersFinishAndCommits(t *testing.T) {
	for _, queue := range []bool{false, true} {
		b := startBroker(t)
		topic := b.create("t", 1)
		b.fill("t", 0, 10, texts(10)...)
		c := dial(t, b, Options{})
		entered, leave := make(chan struct{}), make(chan struct{})
		s := Group("g", "t")
		if queue {
			s = Queue("g", "t")
		}
		ran := make(chan error)
		go func() {
			ran <- c.Run(context.Background(), s, func(ctx context.Context, m *Message) error {
				close(entered)
				<-leave
				_, err := c.Publish(ctx, &Message{Topic: "out", Value: m.Value})
				return err
			})
		}()
		<-entered
		closed := make(chan error)
		go func() { closed <- c.Close(within(t)) }()
		<-c.open.Done()
		close(leave)
		require.ErrorIs(t, <-ran, ErrClosed)
		require.NoError(t, <-closed)
		require.Equal(t, []string{text(0)}, b.values("out", 0))
		b.locked(func() {
			if queue {
				require.Equal(t, map[[2]uint64]bool{{0, 0}: true}, topic.queues["g"].acked)
				return
			}
			require.Equal(t, map[uint16]uint64{0: 1}, topic.committed["g"])
		})
		require.ErrorIs(t, c.Run(within(t), s, ignore), ErrClosed)
	}
}

func TestAQueueGivesEachMessageToOneWorkerAndAcksInRanges(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 2)
	b.fill("t", 0, 10, texts(500)...)
	b.fill("t", 1, 10, texts(500)...)
	c := dial(t, b, Options{})
	s := Queue("q", "t")
	s.Workers = 8
	var mu sync.Mutex
	seen := map[string]int{}
	var n atomic.Int32
	require.NoError(t, c.Run(within(t), s, func(_ context.Context, m *Message) error {
		mu.Lock()
		seen[fmt.Sprint(m.Partition, m.Offset, string(m.Value))]++
		mu.Unlock()
		if n.Add(1) == 1000 {
			return ErrStop
		}
		return nil
	}))
	require.Len(t, seen, 1000)
	for p := range 2 {
		for off := range 500 {
			require.Equal(t, 1, seen[fmt.Sprint(p, uint64(off), text(off))])
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Len(t, topic.queues["q"].acked, 1000)
	require.Empty(t, topic.queues["q"].leased)
}

func TestWhatTheHandlerReturnsSettlesTheMessage(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 10, texts(5)...)
	c := dial(t, b, Options{})
	s := Queue("q", "t")
	s.MaxDeliveries, s.BackoffMin, s.BackoffMax, s.DeadLetter = 7, time.Second, time.Minute, "dead"
	attempts := map[uint64]int{}
	require.NoError(t, c.Run(within(t), s, func(_ context.Context, m *Message) error {
		attempts[m.Offset]++
		require.Equal(t, attempts[m.Offset], m.Attempt)
		switch {
		case m.Offset == 1 && m.Attempt == 1:
			return errors.New("no")
		case m.Offset == 2 && m.Attempt == 1:
			return RetryAfter(1500*time.Millisecond, errors.New("later"))
		case m.Offset == 3:
			return Reject(errors.New("poison"))
		case m.Offset == 4 && m.Attempt == 1:
			return RetryAfter(0, errors.New("now"))
		case m.Offset == 4 && m.Attempt == 2:
			return ErrStop
		}
		return nil
	}))
	b.mu.Lock()
	defer b.mu.Unlock()
	q := topic.queues["q"]
	require.ElementsMatch(t, []int32{-1, 1500, 0}, q.delays[:3])
	require.Equal(t, "poison", q.dead[[2]uint64{0, 3}])
	require.Equal(t, uint32(7), q.open.MaxDeliveries)
	require.Equal(t, uint32(1000), q.open.BackoffMinMs)
	require.Equal(t, "dead", q.open.DeadLetter)
	require.Equal(t, uint32(30_000), q.open.LeaseMs)
	require.True(t, q.acked[[2]uint64{0, 0}])
	require.True(t, q.acked[[2]uint64{0, 4}])
}

func TestSeveralTopicsShareTheWorkers(t *testing.T) {
	for _, queue := range []bool{false, true} {
		b := startBroker(t)
		c := dial(t, b, Options{})
		var topics []string
		for i := range 3 {
			name := "t" + strconv.Itoa(i)
			topics = append(topics, name)
			b.create(name, 1)
			b.fill(name, 0, 10, texts(20)...)
		}
		s := Group("g", topics...)
		if queue {
			s = Queue("g", topics...)
		}
		s.Workers = 2
		var n atomic.Int32
		require.NoError(t, c.Run(within(t), s, func(_ context.Context, m *Message) error {
			if n.Add(1) == 60 {
				return ErrStop
			}
			return nil
		}))
	}
}

// Close may come between the answer of the broker and the moment at which the client knows the consumer.
func TestAQueueOpenedWhileTheClientEndsIsRefused(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	c.mu.Lock()
	c.err = ErrClosed
	c.mu.Unlock()
	_, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.ErrorIs(t, err, ErrClosed)
	require.Empty(t, c.openQueues())
}

func TestAFetchTakesAtLeastOneMessage(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	c := dial(t, b, Options{})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	for _, limit := range []int{0, -1} {
		ms, err := q.Fetch(within(t), limit)
		require.NoError(t, err)
		require.Len(t, ms, 1)
	}
	require.NoError(t, q.Close(within(t)))
}

func TestAFetchRefusesNegativeSizes(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	for _, r := range []FetchRequest{{Topic: "t", MinBytes: -1}, {Topic: "t", MaxBytes: -1}} {
		_, err := c.Fetch(within(t), r)
		require.ErrorIs(t, err, wire.CodeInvalid)
	}
	_, err := c.Fetch(t.Context(), FetchRequest{Topic: "t", MaxWait: -time.Hour})
	require.NoError(t, err)
}

func TestAPulledMessageIsSettledByHand(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 2, texts(6)...)
	c := dial(t, b, Options{})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	ms, err := q.Fetch(within(t), 4)
	require.NoError(t, err)
	require.Len(t, ms, 4)
	require.Equal(t, text(3), string(ms[3].Value))
	require.NoError(t, ms[0].Extend(within(t)))
	require.NoError(t, ms[0].Ack(within(t)))
	require.NoError(t, ms[1].Ack(within(t)))
	require.ErrorIs(t, ms[1].Ack(within(t)), ErrNotLeased)
	require.NoError(t, ms[2].Reject(within(t), "bad"))
	require.ErrorIs(t, ms[2].Nack(within(t), 0), ErrNotLeased)
	require.NoError(t, q.Flush(within(t)))
	fq := topic.queues["q"]
	b.locked(func() {
		require.Equal(t, map[[2]uint64]bool{{0, 0}: true, {0, 1}: true}, fq.acked)
		require.Equal(t, 1, fq.extends)
		delete(fq.leased, [2]uint64{0, 3}) // its lease ends
	})
	require.ErrorIs(t, ms[3].Nack(within(t), time.Second), wire.CodeLeaseLost)

	ms, err = q.Fetch(within(t), 1)
	require.NoError(t, err)
	b.mu.Lock()
	clear(fq.leased)
	b.mu.Unlock()
	require.NoError(t, ms[0].Ack(within(t)))
	require.ErrorIs(t, q.Flush(within(t)), wire.CodeLeaseLost)
	require.NoError(t, q.Flush(within(t)))
	require.Equal(t, uint64(1), q.Lost())
	require.ErrorIs(t, (&Message{}).Ack(within(t)), ErrNotLeased)
	require.ErrorIs(t, (&Message{}).Extend(within(t)), ErrNotLeased)
	require.ErrorIs(t, (&Message{}).Nack(within(t), 0), ErrNotLeased)

	_, err = q.Fetch(within(t), 10)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	_, err = q.Fetch(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, q.Close(within(t)))
	require.NoError(t, q.Close(within(t)))
	_, err = q.Fetch(within(t), 1)
	require.ErrorIs(t, err, ErrClosed)
}

func TestAcknowledgementsStayWithTheTopicThatWasLeased(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 10, texts(2)...)
	c := dial(t, b, Options{OnError: func(error) {}})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	before, err := q.Fetch(within(t), 2)
	require.NoError(t, err)
	b.remove("t")
	fresh := b.create("t", 1)
	b.fill("t", 0, 10, texts(2)...)
	after, err := q.Fetch(within(t), 2)
	require.NoError(t, err)

	q.mu.Lock()
	q.acks.scheduled = true // no timer: both go together
	q.mu.Unlock()
	require.NoError(t, before[0].Ack(within(t)))
	require.NoError(t, after[1].Ack(within(t)))
	require.ErrorIs(t, q.Flush(within(t)), wire.CodeLeaseLost)
	b.locked(func() {
		require.Equal(t, map[[2]uint64]bool{{0, 1}: true}, fresh.queues["q"].acked)
	})
}

func TestASecondAcknowledgementIsNotALateOne(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(2)...)
	c := dial(t, b, Options{})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	ms, err := q.Fetch(within(t), 2)
	require.NoError(t, err)
	require.Len(t, ms, 2)
	require.NoError(t, ms[0].Ack(within(t)))
	require.NoError(t, q.Flush(within(t)))
	b.cut()
	eventually(t, func() bool { return !ms[0].lease.b.conn.alive() })
	require.ErrorIs(t, ms[0].Ack(within(t)), ErrNotLeased)
	require.ErrorIs(t, ms[0].Nack(within(t), 0), ErrNotLeased)
	require.Zero(t, q.Lost())
	require.ErrorIs(t, ms[1].Extend(within(t)), wire.CodeLeaseLost)
	require.ErrorIs(t, ms[1].Ack(within(t)), wire.CodeLeaseLost)
	require.EqualValues(t, 1, q.Lost())
}

func TestALostConnectionEndsTheLeases(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	var lost atomic.Int32
	c := dial(t, b, Options{OnError: func(err error) {
		if errors.Is(err, wire.CodeLeaseLost) {
			lost.Add(1)
		}
	}})
	s := Queue("q", "t")
	s.Prefetch = 1
	once := false
	n := 0
	require.NoError(t, c.Run(within(t), s, func(ctx context.Context, m *Message) error {
		if !once {
			once = true
			b.cut()
			<-ctx.Done() // the lease went with the connection
			require.ErrorIs(t, context.Cause(ctx), wire.CodeLeaseLost)
			return nil
		}
		if n++; n == 3 {
			return ErrStop
		}
		return nil
	}))
	require.Equal(t, int32(1), lost.Load())
}

func TestLeasesAreExtendedWhileHandlersRunUntilTheLimit(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 1, texts(1)...)
	c := dial(t, b, Options{})
	s := Queue("q", "t")
	s.Lease, s.MaxLease = 15*time.Millisecond, 200*time.Millisecond
	require.NoError(t, c.Run(within(t), s, func(ctx context.Context, m *Message) error {
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), wire.CodeLeaseLost)
		return ErrStop
	}))
	b.mu.Lock()
	defer b.mu.Unlock()
	require.GreaterOrEqual(t, topic.queues["q"].extends, 2)
	require.Empty(t, topic.queues["q"].acked)
}

func TestAQueueIsMadeAgainWhenTheBrokerForgotIt(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	c := dial(t, b, Options{})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	b.mu.Lock()
	delete(topic.queues, "q")
	b.mu.Unlock()
	b.fill("t", 0, 1, "x")
	ms, err := q.Fetch(within(t), 1)
	require.NoError(t, err)
	require.Len(t, ms, 1)
	b.remove("t")
	require.Eventually(t, func() bool { _, err = q.Fetch(within(t), 1); return errors.Is(err, wire.CodeTopicNotFound) }, 10*time.Second, time.Millisecond)
	require.NoError(t, q.Close(within(t)))
}

func TestRunEndsWhenReadingIsImpossible(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, "x")
	c := dial(t, b, Options{})
	for _, s := range []Source{Group("g", "none"), Queue("q", "none")} {
		require.ErrorIs(t, c.Run(within(t), s, ignore), wire.CodeTopicNotFound)
	}
	err := c.Run(within(t), Group("g", "t"), func(context.Context, *Message) error {
		b.remove("t")
		return nil
	})
	require.ErrorIs(t, err, wire.CodeTopicDeleted)
	for _, s := range []Source{{}, Group("", "t"), Group("g"), {Name: "g", Topics: []string{"t"}, Workers: -1}, {Name: "g", Topics: []string{"t"}, Lease: -1}} {
		require.Error(t, c.Run(within(t), s, ignore))
	}
	s := Queue("q", "t")
	s.From = BeforeEnd(3)
	require.Error(t, c.Run(within(t), s, ignore))
}

func TestRangesAreMerged(t *testing.T) {
	var ranges []wire.LeaseRange
	for _, off := range []uint64{5, 6, 1, 2, 9, 3, 7} {
		attempt := uint32(1)
		if off == 3 {
			attempt = 2
		}
		ranges = appendRange(ranges, &lease{offset: off, attempt: attempt})
	}
	require.Equal(t, []wire.LeaseRange{
		{First: 1, Count: 2, Attempt: 1},
		{First: 3, Count: 1, Attempt: 2},
		{First: 5, Count: 3, Attempt: 1},
		{First: 9, Count: 1, Attempt: 1},
	}, mergeRanges(ranges))
}

func TestHowManyMessagesAreLeasedAhead(t *testing.T) {
	f := func(want int, q *QueueConsumer) {
		t.Helper()
		require.Equal(t, want, q.missingLocked(), "%d wanted, %d ready, %d asked for by %d", q.want, len(q.ready), q.asking, q.leases)
	}
	ready := func(n int) []*Message { return make([]*Message, n) }
	f(100, &QueueConsumer{renews: true, want: 100})
	f(0, &QueueConsumer{renews: true, want: 100, closed: true})
	f(0, &QueueConsumer{renews: true, want: 100, ready: ready(51)})
	f(50, &QueueConsumer{renews: true, want: 100, ready: ready(50)})
	f(0, &QueueConsumer{renews: true, want: 100, ready: ready(20), asking: 50, leases: 1})
	f(0, &QueueConsumer{renews: true, want: 100, ready: ready(26), asking: 50, leases: 1, several: true})
	f(25, &QueueConsumer{renews: true, want: 100, ready: ready(25), asking: 50, leases: 1, several: true})
	f(0, &QueueConsumer{renews: true, want: 100, asking: 75, leases: 2, several: true})
	f(0, &QueueConsumer{renews: true, want: 1, asking: 1, leases: 1, several: true})
	f(10, &QueueConsumer{want: 10})
	f(0, &QueueConsumer{want: 10, ready: ready(1)})
	f(0, &QueueConsumer{want: 10, asking: 5, leases: 1, several: true})
	f(0, &QueueConsumer{})
}

// The memory of a reply is used again when the handlers of all its messages have returned, and not before.
func TestTheMemoryOfAReplyIsUsedAgain(t *testing.T) {
	q := &QueueConsumer{c: &Client{}}
	reply := func(n int) (slab []Message, leases []*lease) {
		slab = q.slab(n)
		g := &leasing{q: q, buf: &buffer{}}
		for i := range n {
			slab = append(slab, Message{Offset: uint64(i + 1)})
			leases = append(leases, &lease{leasing: g})
		}
		g.of(slab, make([]*Message, n))
		return slab, leases
	}
	first, leases := reply(2)
	q.handledLocked(leases[1])
	second, others := reply(2)
	require.NotSame(t, &first[0], &second[0], "a handler still has a message of it")
	q.handledLocked(leases[0])
	require.Equal(t, make([]Message, 2), first)
	third, _ := reply(1)
	require.Same(t, &first[0], &third[0])
	require.Equal(t, uint64(1), second[0].Offset)
	q.handledLocked(others[0])
	q.handledLocked(others[1])
	larger, _ := reply(3)
	require.NotSame(t, &second[0], &larger[0])
}

// What the first answers leave out may be gone when the client goes on behind it.
func TestAFetchFromTheStartGoesOnWhereRetentionHasPassedIt(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	asked := make(chan wire.Position, 3)
	answers := []func(c *fakeConn, f wire.Frame){
		func(c *fakeConn, f wire.Frame) {
			c.reply(f, 0, (&wire.Entries{First: 3, Visible: 9, Next: 5}).AppendFixed(nil))
		},
		func(c *fakeConn, f wire.Frame) {
			we := wire.Errorf(wire.CodeOffsetOutOfRange, "")
			we.First, we.Next = 7, 9
			c.fail(f, we)
		},
		func(c *fakeConn, f wire.Frame) {
			c.reply(f, 0, (&wire.Entries{First: 7, Visible: 9, Next: 9}).AppendFixed(nil))
		},
	}
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpFetch {
			return false
		}
		var m wire.Fetch
		if m.Parse(f.Body) != nil {
			return false
		}
		asked <- m.From
		answers[0](c, f)
		answers = answers[1:]
		return true
	})
	c := dial(t, b, Options{})
	f, err := c.Fetch(within(t), FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, uint64(9), f.Next)
	for _, want := range []wire.Position{
		{Kind: wire.PositionFirst}, {Kind: wire.PositionOffset, Value: 5}, {Kind: wire.PositionOffset, Value: 7},
	} {
		require.Equal(t, want, <-asked)
	}
}

// The kill of a process costs few attempts where few are allowed.
func TestFewDeliveriesMeanFewMessagesAhead(t *testing.T) {
	f := func(deliveries, workers, prefetch, want int) {
		t.Helper()
		s := Source{MaxDeliveries: deliveries, Workers: workers, Prefetch: prefetch}.withDefaults()
		require.Equal(t, want, s.Prefetch)
	}
	f(0, 1, 0, 32)
	f(3, 2, 0, 64)
	f(5, 100, 0, 1000)
	f(1, 1, 0, 1)
	f(2, 4, 0, 4)
	f(1, 4, 50, 50)
}
