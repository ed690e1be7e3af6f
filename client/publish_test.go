package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/keyhash"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

func TestAPublishedMessageIsFetchedAsItWas(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{Name: "me", Token: "secret"})
	sent := &Message{
		Topic: "orders", Key: []byte("alice"), Value: []byte("hello"), Subject: "orders.new",
		Headers: []Header{{"a", []byte("1")}, {"a", nil}}, Time: time.UnixMilli(1_600_000_000_123),
	}
	r, err := c.Publish(within(t), sent)
	require.NoError(t, err)
	require.Equal(t, Receipt{Topic: "orders", Level: wire.LevelDisk}, r)

	f, err := c.Fetch(within(t), FetchRequest{Topic: "orders"})
	require.NoError(t, err)
	require.Equal(t, uint64(1), f.Next)
	require.Len(t, f.Messages, 1)
	got := f.Messages[0]
	require.Equal(t, "1", string(got.Header("a")))
	require.Nil(t, got.Header("b"))
	require.Equal(t, sent.Key, got.Key)
	require.Equal(t, sent.Value, got.Value)
	require.Equal(t, sent.Subject, got.Subject)
	require.Equal(t, sent.Time, got.Time)
	require.Len(t, got.Headers, 2)
	require.Equal(t, "me", b.hellos[0].Name)
	require.Equal(t, "token", b.hellos[0].Mechanism)
	require.Equal(t, "secret", string(b.hellos[0].Credentials))
}

func TestManyAsyncPublishesArriveInOrderInFewBatches(t *testing.T) {
	for _, codec := range []wire.Codec{wire.CodecNone, wire.CodecS2, wire.CodecZstd, wire.CodecLZ4} {
		b := startBroker(t)
		b.create("t", 1)
		c := dial(t, b, Options{Codec: codec, MaxBatchBytes: 4 << 10})
		var mu sync.Mutex
		var offsets []uint64
		for i := range 5000 {
			require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, func(r Receipt, err error) {
				mu.Lock()
				defer mu.Unlock()
				offsets = append(offsets, r.Offset)
			}))
		}
		require.NoError(t, c.Flush(within(t)))
		require.Len(t, offsets, 5000)
		for i, off := range offsets {
			require.Equal(t, uint64(i), off)
		}
		require.Equal(t, texts(5000), b.values("t", 0))
		require.Less(t, b.count(wire.OpPublish), 1000)
		require.Zero(t, c.producer.budget.used.Load())

		var got []string
		for next := uint64(0); next < 5000; {
			f, err := c.Fetch(within(t), FetchRequest{Topic: "t", From: At(next)})
			require.NoError(t, err)
			for _, m := range f.Messages {
				got = append(got, string(m.Value))
			}
			next = f.Next
		}
		require.Equal(t, texts(5000), got)
	}
}

func TestFetchSkipsWhatIsBeforeTheOffset(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 10, texts(30)...)
	c := dial(t, b, Options{})
	f := func(from Position, want ...string) {
		t.Helper()
		r, err := c.Fetch(within(t), FetchRequest{Topic: "t", From: from, MaxBytes: 1})
		require.NoError(t, err)
		got := []string{}
		for _, m := range r.Messages {
			got = append(got, string(m.Value))
		}
		require.Equal(t, want, got)
	}
	f(At(7), texts(10)[7:]...)
	f(Last(), text(29))
	f(BeforeEnd(2), text(28), text(29))
	f(AfterStart(8), text(8), text(9))
	f(Start(), texts(10)...)
	f(End(), []string{}...)
}

func TestKeysChooseThePartitionAndPinsOverrideThem(t *testing.T) {
	b := startBroker(t)
	b.create("t", 4).hash = wire.HashSum
	c := dial(t, b, Options{})
	for i := range 40 {
		r, err := c.Publish(within(t), &Message{Topic: "t", Key: []byte{byte(i)}})
		require.NoError(t, err)
		require.Equal(t, i%4, r.Partition)
	}
	r, err := c.Publish(within(t), &Message{Topic: "t", Key: []byte{0}, Partition: 3, Pinned: true})
	require.NoError(t, err)
	require.Equal(t, 3, r.Partition)
	_, err = c.Publish(within(t), &Message{Topic: "t", Partition: 4, Pinned: true})
	require.ErrorIs(t, err, wire.CodePartitionNotFound)
}

func TestMessagesWithoutAKeyUseEveryPartition(t *testing.T) {
	b := startBroker(t)
	b.create("t", 4)
	c := dial(t, b, Options{})
	seen := map[int]int{}
	for range 40 {
		r, err := c.Publish(within(t), &Message{Topic: "t"})
		require.NoError(t, err)
		seen[r.Partition]++
	}
	require.Equal(t, map[int]int{0: 10, 1: 10, 2: 10, 3: 10}, seen)
}

func TestMessagesWithoutAKeyAreSpreadWhileNoAnswerComes(t *testing.T) {
	b := startBroker(t)
	b.create("t", 6)
	release := make(chan struct{})
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			<-release
		}
		return false
	})
	c := dial(t, b, Options{})
	for range 6 * (1 + keylessRun) { // each partition has a batch of one that leaves at once, and one that waits
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t"}, nil))
	}
	close(release)
	require.NoError(t, c.Flush(within(t)))
	for p := range 6 {
		require.Len(t, b.values("t", p), 1+keylessRun)
	}
}

func TestWhatCannotBeStoredIsRefusedBeforeItIsSent(t *testing.T) {
	b := startBroker(t)
	b.hello.MaxRecord = 1000
	c := dial(t, b, Options{})
	f := func(m Message, want wire.Code) {
		t.Helper()
		m.Topic = "t"
		_, err := c.Publish(within(t), &m)
		require.ErrorIs(t, err, want)
	}
	f(Message{Value: make([]byte, 1001)}, wire.CodeTooLarge)
	f(Message{Key: make([]byte, wire.MaxKeyBytes+1)}, wire.CodeTooLarge)
	f(Message{Headers: []Header{{"h", make([]byte, wire.MaxHeaderBytes)}}}, wire.CodeTooLarge)
	f(Message{Subject: string(make([]byte, wire.MaxSubjectBytes+1))}, wire.CodeTooLarge)
	f(Message{Level: 99}, wire.CodeInvalid)
	require.Zero(t, b.count(wire.OpPublish))
	_, err := c.Publish(within(t), &Message{
		Topic: "t", Key: make([]byte, 10), Value: make([]byte, 980), Subject: "t.sub", // which does not count
		Headers: []Header{{"name", []byte("a")}, {"name", []byte("b")}},
	})
	require.NoError(t, err)
	require.Equal(t, 1, b.count(wire.OpPublish))
	_, err = c.Publish(within(t), &Message{})
	require.ErrorIs(t, err, wire.CodeInvalid)
}

func TestATopicThatMayNotBeCreatedIsAnError(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{NoAutoCreate: true})
	_, err := c.Publish(within(t), &Message{Topic: "none"})
	require.ErrorIs(t, err, wire.CodeTopicNotFound)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "none", e.Topic)
	require.Equal(t, `resolve none: TOPIC_NOT_FOUND: the topic does not exist`, err.Error())
}

func TestOneReplyCanAnswerARangeOfPublishes(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var held []wire.Frame
	pinged := make(chan struct{}, 10) // the first ping may come at any time, and has a correlation id as well
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPing {
			pinged <- struct{}{}
		}
		if f.Op != wire.OpPublish {
			return false
		}
		held = append(held, f)
		if len(held) == 3 {
			last := held[0].Correlation
			for _, h := range held[1:] {
				require.Equal(t, last+1, h.Correlation)
				last++
			}
			c.reply(held[0], wire.FlagRange|wire.Flags(wire.LevelOS), wire.PublishReply{Base: 100, Extra: 2}.Append(nil, wire.FlagRange))
		}
		return true
	})
	c := dial(t, b, Options{MaxBatchBytes: 200})
	<-pinged
	var mu sync.Mutex
	var got []uint64
	for range 3 { // each fills a batch of its own
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: make([]byte, 150)}, func(r Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			require.NoError(t, err)
			require.Equal(t, wire.LevelOS, r.Level)
			got = append(got, r.Offset)
		}))
	}
	require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: make([]byte, 300)}, nil))
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 3
	})
	require.Equal(t, []uint64{100, 101, 102}, got)
}

func TestRepliesThatOvertakeReachTheRightPublish(t *testing.T) {
	b := startBroker(t)
	b.create("t", 2)
	var held []wire.Frame
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish {
			return false
		}
		if held = append(held, f); len(held) == 2 {
			c.handle(held[1])
			c.handle(held[0])
		}
		return true
	})
	c := dial(t, b, Options{})
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Go(func() {
			r, err := c.Publish(within(t), &Message{Topic: "t", Partition: p, Pinned: true, Value: []byte(text(p))})
			require.NoError(t, err)
			require.Equal(t, p, r.Partition)
		})
	}
	wg.Wait()
	require.Equal(t, []string{text(1)}, b.values("t", 1))
}

func TestFireAndForgetIsDoneWhenWritten(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	failed := make(chan error, 1)
	c := dial(t, b, Options{Level: wire.LevelNone, OnError: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}})
	for i := range 1000 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, nil))
	}
	r, err := c.Publish(within(t), &Message{Topic: "t", Value: []byte(text(1000))})
	require.NoError(t, err)
	require.Equal(t, wire.LevelNone, r.Level)
	require.NoError(t, c.Flush(within(t)))
	eventually(t, func() bool { return len(b.values("t", 0)) == 1001 })
	require.Equal(t, texts(1001), b.values("t", 0))

	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			c.fail(f, wire.Errorf(wire.CodeReadOnly, "broken"))
		}
		return f.Op == wire.OpPublish
	})
	_, err = c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
	require.ErrorIs(t, <-failed, wire.CodeReadOnly)
}

func TestPublishingBlocksWhenTheBufferIsFull(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	release := make(chan struct{})
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			<-release
		}
		return false
	})
	c := dial(t, b, Options{MaxBufferedBytes: 1000})
	m := &Message{Topic: "t", Value: make([]byte, 400)}
	require.NoError(t, c.PublishAsync(within(t), m, nil))
	require.NoError(t, c.PublishAsync(within(t), m, nil))
	ctx, cancel := context.WithCancel(within(t))
	errs := make(chan error, 2)
	go func() { errs <- c.PublishAsync(ctx, m, nil) }()
	go func() { errs <- c.PublishAsync(within(t), m, nil) }()
	eventually(t, func() bool { return c.producer.budget.waiting.Load() == 2 })
	cancel()
	require.ErrorIs(t, <-errs, context.Canceled)
	close(release)
	require.NoError(t, <-errs)
	require.NoError(t, c.Flush(within(t)))
	require.Len(t, b.values("t", 0), 3)
}

func TestTheBrokersLimitOfUnansweredBytesIsKept(t *testing.T) {
	b := startBroker(t)
	b.create("t", 8)
	b.hello.MaxInFlight = 1000
	var mu sync.Mutex
	unanswered, most := 0, 0
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish {
			return false
		}
		mu.Lock()
		unanswered += len(f.Body)
		most = max(most, unanswered)
		mu.Unlock()
		go func() {
			c.b.mu.Lock()
			defer c.b.mu.Unlock()
			mu.Lock()
			unanswered -= len(f.Body)
			mu.Unlock()
			require.NoError(t, c.publish(f))
		}()
		return true
	})
	c := dial(t, b, Options{MaxBatchBytes: 300})
	for i := range 500 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Partition: i % 8, Pinned: true, Value: make([]byte, 100)}, nil))
	}
	require.NoError(t, c.Flush(within(t)))
	require.LessOrEqual(t, most, 1000+8*publishBytes)
	require.Greater(t, most, 500)
}

func TestABusyBrokerIsTriedAgainInOrder(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	n := 0
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish {
			return false
		}
		if n++; n%3 != 0 && n < 60 {
			c.fail(f, wire.Errorf(wire.CodeBusy, "later"))
			return true
		}
		return false
	})
	c := dial(t, b, Options{MaxBatchBytes: 200, MaxInFlight: 1})
	for i := range 200 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, func(_ Receipt, err error) {
			require.NoError(t, err)
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	require.Equal(t, texts(200), b.values("t", 0))
}

// pausedLane returns the lane of partition 0, which gathers batches until it is resumed, and lets them go together.
func pausedLane(t *testing.T, c *Client, name string) *lane {
	tp, err := c.producer.topic(within(t), name)
	require.NoError(t, err)
	l := (*tp.lanes.Load())[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = true
	return l
}

func TestARefusedBatchIsNotSentBehindALaterOne(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var first sync.Once
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		refuse := false
		if f.Op == wire.OpPublish {
			first.Do(func() { refuse = true })
		}
		if refuse {
			c.fail(f, wire.Errorf(wire.CodeBusy, "only this one"))
		}
		return refuse
	})
	c := dial(t, b, Options{MaxBatchBytes: 150})
	var mu sync.Mutex
	var stored []string
	var failed []error
	l := pausedLane(t, c, "t")
	for i := range 4 {
		v := text(i)
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: append([]byte(v), make([]byte, 100)...)}, func(_ Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				return
			}
			stored = append(stored, v)
		}))
	}
	l.resume()
	require.NoError(t, c.Flush(within(t)))
	require.Equal(t, []string{text(1), text(2), text(3)}, stored)
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[0], wire.CodeBusy)
	require.NotErrorIs(t, failed[0], ErrUnknownOutcome)
}

// While a batch that was refused waits for the one behind it, nothing is sent that would overtake both.
func TestNothingIsSentBehindARefusedBatch(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	held := make(chan func(), 1) // refuses the second batch
	n := 0
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpPublish || n == 2 {
			return false
		}
		n++
		refuse := func() { c.fail(f, wire.Errorf(wire.CodeBusy, "later")) }
		if n == 1 {
			refuse()
		} else {
			held <- refuse
		}
		return true
	})
	c := dial(t, b, Options{NoIdempotence: true, MaxBatchBytes: 150})
	var mu sync.Mutex
	var stored []string
	var failed []error
	publish := func(i int) {
		v := text(i)
		m := &Message{Topic: "t", Value: append([]byte(v), make([]byte, 100)...)}
		require.NoError(t, c.PublishAsync(within(t), m, func(_ Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			stored, failed = append(stored, v), append(failed, err)
		}))
	}
	roundTrip := func() {
		_, err := c.Topic(within(t), "t")
		require.NoError(t, err)
	}
	l := pausedLane(t, c, "t")
	publish(0)
	publish(1)
	publish(2)
	l.resume()
	refuse := <-held
	roundTrip() // the client knows that the first one was refused
	publish(3)
	publish(4)
	roundTrip() // what it has sent by now is there
	refuse()
	require.NoError(t, c.Flush(within(t)))
	require.Equal(t, []string{text(0), text(1), text(2), text(3), text(4)}, stored)
	require.Equal(t, make([]error, 5), failed)
}

func TestAFullDiskIsReportedAtOnce(t *testing.T) {
	b := startBroker(t)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			c.fail(f, wire.Errorf(wire.CodeStorageFull, "no room"))
		}
		return f.Op == wire.OpPublish
	})
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.ErrorIs(t, err, wire.CodeStorageFull)
	require.NotErrorIs(t, err, ErrUnknownOutcome)
}

func TestAFailedFlushIsAnUnknownOutcome(t *testing.T) {
	b := startBroker(t)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			c.fail(f, wire.Errorf(wire.CodeStorage, "fsync"))
		}
		return f.Op == wire.OpPublish
	})
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.ErrorIs(t, err, wire.CodeStorage)
	require.ErrorIs(t, err, ErrUnknownOutcome)
	var e *Error
	require.ErrorAs(t, err, &e)
}

func TestADeletedTopicIsFoundAgainUnderItsNewHandle(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t", Value: []byte("old")})
	require.NoError(t, err)
	b.remove("t")
	r, err := c.Publish(within(t), &Message{Topic: "t", Value: []byte("new")})
	require.NoError(t, err)
	require.Zero(t, r.Offset)
	require.Equal(t, []string{"new"}, b.values("t", 0))
}

func TestNewPartitionsAreFound(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
	b.mu.Lock()
	topic.parts = append(topic.parts, &fakePart{changed: make(chan struct{})})
	b.mu.Unlock()
	c.producer.refresh(c.conn.Load())
	eventually(t, func() bool {
		_, err := c.Publish(within(t), &Message{Topic: "t", Partition: 1, Pinned: true})
		return err == nil
	})
}

func TestAGetFindsNewPartitions(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	asked := make(chan uint16, 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpGet {
			return false
		}
		var m wire.Get
		require.NoError(t, m.Parse(f.Body))
		c.fail(f, wire.Errorf(wire.CodeKeyNotFound, ""))
		asked <- m.Partition
		return true
	})
	c := dial(t, b, Options{})
	key := []byte("a key of the second partition")
	get := func() uint16 {
		_, err := c.Get(within(t), "t", key)
		require.ErrorIs(t, err, wire.CodeKeyNotFound)
		return <-asked
	}
	require.Zero(t, get())
	b.locked(func() { topic.parts = append(topic.parts, &fakePart{changed: make(chan struct{})}) })
	require.Equal(t, 1, keyhash.Partition(topic.hash, key, 2))
	c.producer.refresh(c.conn.Load())
	require.EqualValues(t, 1, get())
}

func TestFireAndForgetFindsATopicThatWasMadeAgain(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{Level: wire.LevelNone})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
	eventually(t, func() bool { return len(b.values("t", 0)) == 1 })
	b.remove("t")
	eventually(t, func() bool {
		_, err := c.Publish(within(t), &Message{Topic: "t"})
		require.NoError(t, err)
		return len(b.values("t", 0)) > 0
	})
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{})
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err := c.Publish(ctx, &Message{Topic: "t"})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrUnknownOutcome)
	require.Zero(t, b.count(wire.OpPublish))
}

func TestLingerGathersMessages(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{Linger: 20 * time.Millisecond})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := c.Publish(within(t), &Message{Topic: "t"})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, b.count(wire.OpPublish), 5)
	require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t"}, nil))
	require.NoError(t, c.Flush(within(t)))
}

func TestAContextThatEndsLeavesTheOutcomeUnknown(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool { return f.Op == wire.OpPublish })
	c := dial(t, b, Options{})
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	_, err := c.Publish(ctx, &Message{Topic: "t"})
	require.ErrorIs(t, err, ErrUnknownOutcome)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, c.Flush(ctx), context.DeadlineExceeded)
}

func TestPublishAllocatesNothingPerMessage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			var m wire.Publish
			_ = m.Parse(f.Body)
			c.reply(f, wire.Flags(wire.LevelMemory), wire.PublishReply{}.Append(nil, 0))
		}
		return f.Op == wire.OpPublish
	})
	c := dial(t, b, Options{})
	ctx := context.Background()
	m := &Message{Topic: "t", Key: []byte("key"), Value: make([]byte, 128)}
	done := func(_ Receipt, err error) {
		if err != nil {
			panic(err)
		}
	}
	round := func() {
		for range 10_000 {
			if err := c.PublishAsync(ctx, m, done); err != nil {
				panic(err)
			}
		}
		if err := c.Flush(ctx); err != nil {
			panic(err)
		}
	}
	round()
	// The fake broker allocates per frame; what is left per message must vanish in it.
	perRound := testing.AllocsPerRun(20, round)
	require.Less(t, perRound/10_000, 0.05, "allocations per message")
}

func TestBadOptionsAndAddressesAreRefused(t *testing.T) {
	f := func(addr string, o Options) {
		t.Helper()
		_, err := Dial(within(t), addr, o)
		require.Error(t, err)
	}
	f("http://x", Options{})
	f("rafka://", Options{})
	f("a:b:c", Options{})
	f("", Options{MaxBatchBytes: 5 << 20})
	f("", Options{MaxInFlight: -1})
	f("", Options{ReconnectMin: 2, ReconnectMax: 1})
	f("", Options{Codec: 7})
	f("", Options{Token: "a", User: "b"})
	f("", Options{Name: string(make([]byte, 256))})
}

func TestAddresses(t *testing.T) {
	f := func(addr string, o Options, want ...endpoint) {
		t.Helper()
		got, err := parseAddr(addr, &o)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	f("", Options{}, endpoint{"127.0.0.1:4222", "127.0.0.1", false})
	f("host", Options{}, endpoint{"host:4222", "host", false})
	f("a:1,b:2", Options{}, endpoint{"a:1", "a", false}, endpoint{"b:2", "b", false})
	f("rafkas://a,b:2", Options{}, endpoint{"a:4222", "a", true}, endpoint{"b:2", "b", true})
	f("rafka://[::1]:99", Options{}, endpoint{"[::1]:99", "::1", false})
	o := Options{}
	_, err := parseAddr("rafka://me:pw@host", &o)
	require.NoError(t, err)
	require.Equal(t, "me", o.User)
	require.Equal(t, "pw", o.Password)
	o = Options{}
	_, err = parseAddr("rafka://me:p%2Cw%2F%40@host", &o)
	require.NoError(t, err)
	require.Equal(t, "p,w/@", o.Password)
	for _, addr := range []string{"rafka://me:1234,w@host", "me:secret@host", "rafka://me:1/secret@host", "rafka://me:1?secret@host", "rafka://me:1%secret@host"} {
		_, err = parseAddr(addr, &Options{}) // some of these would be other addresses, with a part of the password as a token
		require.ErrorContains(t, err, "%2C", addr)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "1234")
	}
	_, err = parseAddr("ftp://me:secret@host", &o)
	require.NotContains(t, err.Error(), "secret")
	for _, addr := range []string{"ftp://host", "host:99999", "host:0", "host:65536", "a:1,host:x", "rafka://", "host:1:2"} {
		_, err := parseAddr(addr, &Options{})
		require.ErrorIs(t, err, ErrAddress, addr)
	}
	_, err = parseAddr("a:1,host:99999", &o)
	require.EqualError(t, err, `client: bad address "host:99999": port 99999 is not between 1 and 65535`)
}

func TestAdmin(t *testing.T) {
	b := startBroker(t)
	c := dial(t, b, Options{})
	ctx := within(t)
	info, err := c.CreateTopic(ctx, "b", TopicOptions{Partitions: 3})
	require.NoError(t, err)
	require.Equal(t, "b", info.Topic)
	require.Len(t, info.Partitions, 3)
	_, err = c.CreateTopic(ctx, "b", TopicOptions{})
	require.ErrorIs(t, err, wire.CodeTopicExists)
	require.Equal(t, "create_topic b: TOPIC_EXISTS: the topic exists already", err.Error())
	_, err = c.EnsureTopic(ctx, "b", TopicOptions{})
	require.NoError(t, err)
	_, err = c.CreateTopic(ctx, "x", TopicOptions{Partitions: 5000})
	require.ErrorIs(t, err, wire.CodeInvalid)
	for _, name := range []string{"a", "c", "d", "e"} {
		_, err = c.EnsureTopic(ctx, name, TopicOptions{})
		require.NoError(t, err)
	}
	all, err := c.Topics(ctx)
	require.NoError(t, err)
	require.Len(t, all, 5)
	require.Equal(t, "e", all[4].Topic)
	info, err = c.Topic(ctx, "b")
	require.NoError(t, err)
	require.Len(t, info.Partitions, 3)
	require.NoError(t, c.PurgeTopic(ctx, "b", AllPartitions, PurgeAll))
	require.ErrorIs(t, c.PurgeTopic(ctx, "b", -2, 0), wire.CodePartitionNotFound)
	require.NoError(t, c.DeleteTopic(ctx, "b"))
	require.ErrorIs(t, c.DeleteTopic(ctx, "b"), wire.CodeTopicNotFound)
	groups, err := c.Groups(ctx, "")
	require.NoError(t, err)
	require.Equal(t, "g", groups[0].Group)
	require.NoError(t, c.DeleteGroup(ctx, "g", ""))
	stats, err := c.Stats(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"connections":1}`, string(stats))
	rtt, err := c.Ping(ctx)
	require.NoError(t, err)
	require.Positive(t, rtt)
	_, err = c.AlterTopic(ctx, "a", TopicOptions{})
	require.ErrorIs(t, err, wire.CodeUnsupported)

	require.NoError(t, c.Commit(ctx, "g", "a", map[int]uint64{0: 7}))
	offsets, err := c.Committed(ctx, "g", "a")
	require.NoError(t, err)
	require.Equal(t, map[int]uint64{0: 7}, offsets)
	_, err = c.Fetch(ctx, FetchRequest{Topic: "a", Partition: 1})
	require.ErrorIs(t, err, wire.CodePartitionNotFound)
	_, err = c.Fetch(ctx, FetchRequest{Topic: "a", From: At(9)})
	var we *wire.Error
	require.ErrorAs(t, err, &we)
	require.Equal(t, wire.CodeOffsetOutOfRange, we.Code)
}

func TestErrorsSayWhatWhereAndWhy(t *testing.T) {
	we := wire.Errorf(wire.CodeReadOnly, "after a failed flush")
	require.Equal(t, "publish t/3: READ_ONLY: after a failed flush", explain(we, wire.OpPublish, "t", 3).Error())
	require.Equal(t, "stats: READ_ONLY: after a failed flush", explain(we, wire.OpStats, "", anyPartition).Error())
	require.Equal(t, "fetch t: boom", explain(errors.New("boom"), wire.OpFetch, "t", 0).Error())
	require.NoError(t, explain(nil, wire.OpFetch, "t", 0))
	require.Equal(t, "client: connection lost: x", fmt.Sprint(&lostError{reason: errors.New("x")}))
}

func TestABrokerThatStaysBusyIsNotTriedForEver(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			c.fail(f, wire.Errorf(wire.CodeBusy, "later"))
		}
		return f.Op == wire.OpPublish
	})
	c := dial(t, b, Options{RequestTimeout: time.Second})
	ended := make(chan error, 1)
	require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte("v")}, func(_ Receipt, err error) { ended <- err }))
	select {
	case err := <-ended:
		require.ErrorIs(t, err, wire.CodeBusy)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
	case <-within(t).Done():
		require.Fail(t, "it is tried for ever")
	}
	require.Greater(t, b.count(wire.OpPublish), 1)
}
