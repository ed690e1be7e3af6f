package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// brokers runs a test against a broker in memory without a socket, and one on disk with a socket.
func brokers(t *testing.T, test func(t *testing.T, b *servertest.Broker, c *client.Client)) {
	t.Run("in memory", func(t *testing.T) {
		b := servertest.Start(t, servertest.Options{})
		test(t, b, connect(t, b, client.Options{Dialer: b.Dial}))
	})
	t.Run("on disk", func(t *testing.T) {
		b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
		test(t, b, connect(t, b, client.Options{}))
	})
}

func connect(t testing.TB, b *servertest.Broker, o client.Options) *client.Client {
	t.Helper()
	o.ReconnectMin, o.ReconnectMax = time.Millisecond, 20*time.Millisecond
	c, err := client.Dial(within(t), b.Addr, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// rawClient speaks the protocol frame by frame.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialRaw(t *testing.T, b *servertest.Broker) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	r := &rawClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	_, err = r.in.ReadString('\n')
	require.NoError(t, err)
	_, err = conn.Write(wire.AppendPreface(nil))
	require.NoError(t, err)
	r.call(wire.OpHello, 0, (&wire.Hello{Name: "raw"}).Append)
	return r
}

// call returns the body of the answer, which must be no error.
func (r *rawClient) call(op wire.Op, flags wire.Flags, body func([]byte) []byte) []byte {
	r.t.Helper()
	request, at := wire.BeginFrame(nil, op, flags, 1)
	_, err := r.conn.Write(wire.EndFrame(body(request), at))
	require.NoError(r.t, err)
	head, err := r.in.Peek(4)
	require.NoError(r.t, err)
	reply := make([]byte, binary.LittleEndian.Uint32(head)+4)
	_, err = io.ReadFull(r.in, reply)
	require.NoError(r.t, err)
	f, _, _, _, err := wire.NextFrame(reply, wire.MaxReplyBytes)
	require.NoError(r.t, err)
	require.Zero(r.t, f.Flags&wire.FlagError, "%q", f.Body)
	return f.Body
}

// The largest request stores a batch that takes more than such a frame to hand out.
func TestTheLargestBatchCanBeRead(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{
		Listen: "127.0.0.1:0", Topics: []wire.Setting{{Key: "max_record_bytes", Value: "8387584"}},
	}})
	c := connect(t, b, client.Options{})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	raw := dialRaw(t, b)
	var topic wire.ResolveReply
	require.NoError(t, topic.Parse(raw.call(wire.OpResolve, 0, (&wire.Resolve{Topic: "t"}).Append)))
	const largest = wire.MaxFrameBytes - wire.HeaderBytes - 4
	var batch wire.BatchBuilder
	batch.Add(wire.Record{Value: make([]byte, largest-1<<10)})
	batch.Add(wire.Record{Value: make([]byte, 1<<10-14)})
	require.Equal(t, largest, len(batch.Bytes()))
	raw.call(wire.OpPublish, wire.Flags(wire.LevelMemory), (&wire.Publish{Handle: topic.Handle, Batch: batch.Bytes()}).Append)

	got, err := c.Fetch(within(t), client.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, got.Messages, 2)
	sub, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	queue, err := c.OpenQueue(within(t), client.Queue("q", "t"))
	require.NoError(t, err)
	for range 2 {
		_, err = sub.Next(within(t))
		require.NoError(t, err)
		_, err = queue.Fetch(within(t), 1)
		require.NoError(t, err)
	}
}

// A subscription reports damage on the disk and goes on behind it.
func TestASubscriptionGoesOnBehindDamage(t *testing.T) {
	o := servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}}
	b := servertest.Start(t, o)
	c := connect(t, b, client.Options{})
	for i := range 3 {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: fmt.Appendf(nil, "message %d", i)})
		require.NoError(t, err)
	}
	b.Stop()
	segments, err := filepath.Glob(filepath.Join(o.Server.Dir, "partitions", "*", "*.seg"))
	require.NoError(t, err)
	damaged := 0
	for _, name := range segments {
		stored, err := os.ReadFile(name)
		require.NoError(t, err)
		if at := bytes.Index(stored, []byte("message 1")); at >= 0 {
			stored[at] ^= 1
			require.NoError(t, os.WriteFile(name, stored, 0o600))
			damaged++
		}
	}
	require.Equal(t, 1, damaged)

	c = connect(t, servertest.Start(t, o), client.Options{})
	sub, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	m, err := sub.Next(within(t))
	require.NoError(t, err)
	require.Equal(t, "message 0", string(m.Value))
	_, err = sub.Next(within(t))
	require.ErrorIs(t, err, wire.CodeCorruptRange)
	m, err = sub.Next(within(t))
	require.NoError(t, err)
	require.Equal(t, "message 2", string(m.Value))
}

// A producer may send a compressed batch that nobody can open. Its records are lost, and everybody goes on behind them.
func TestABatchThatCannotBeDecodedIsPassed(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	reports := make(chan error, 100)
	c := connect(t, b, client.Options{OnError: func(err error) { reports <- err }})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	raw := dialRaw(t, b)
	var topic wire.ResolveReply
	require.NoError(t, topic.Parse(raw.call(wire.OpResolve, 0, (&wire.Resolve{Topic: "t"}).Append)))
	var two wire.BatchBuilder
	two.Add(wire.Record{Value: []byte("x")})
	two.Add(wire.Record{Value: []byte("y")})
	_, err = c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("a")})
	require.NoError(t, err)
	garbage := wire.Publish{Handle: topic.Handle, Batch: two.AppendCompressed(nil, wire.CodecS2, []byte("garbage"))}
	raw.call(wire.OpPublish, wire.Flags(wire.LevelMemory), garbage.Append)
	_, err = c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("b")})
	require.NoError(t, err)
	lost := func(err error) {
		t.Helper()
		e, ok := errors.AsType[*client.Error](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, []any{wire.CodeCorruptRange, uint64(1), uint64(3)}, []any{e.Err.Code, e.Err.First, e.Err.Next})
	}

	sub, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	var got []string
	for range 3 {
		m, err := sub.Next(within(t))
		if err != nil {
			lost(err)
			continue
		}
		got = append(got, string(m.Value))
	}
	require.Equal(t, []string{"a", "b"}, got)

	f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, f.Messages, 1)
	_, err = c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(f.Next)})
	lost(err)
	f, err = c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(3)})
	require.NoError(t, err)
	require.Len(t, f.Messages, 1)

	got = nil
	require.NoError(t, c.Run(within(t), client.Group("g", "t"), func(_ context.Context, m *client.Message) error {
		if got = append(got, string(m.Value)); len(got) == 2 {
			return client.ErrStop
		}
		return nil
	}))
	require.Equal(t, []string{"a", "b"}, got)
	lost(<-reports)

	queue, err := c.OpenQueue(within(t), client.Queue("q", "t"))
	require.NoError(t, err)
	group, err := c.OpenGroup(within(t), client.Group("h", "t"))
	require.NoError(t, err)
	for _, fetch := range []func(context.Context, int) ([]*client.Message, error){queue.Fetch, group.Fetch} {
		got = nil
		for len(got) < 2 {
			ms, err := fetch(within(t), 10)
			require.NoError(t, err)
			for _, m := range ms {
				got = append(got, string(m.Value))
			}
		}
		require.ElementsMatch(t, []string{"a", "b"}, got)
		lost(<-reports)
	}
}

func value(i int) string { return fmt.Sprintf("value %06d", i) }

func TestARealBrokerStoresWhatIsPublished(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		_, err := c.CreateTopic(within(t), "t", client.TopicOptions{Partitions: 3})
		require.NoError(t, err)
		const n = 5000
		var mu sync.Mutex
		perPartition := map[int]uint64{}
		for i := range n {
			m := &client.Message{Topic: "t", Key: []byte(value(i % 50)), Value: []byte(value(i)), Headers: []client.Header{{Name: "n", Value: []byte(value(i))}}}
			require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
				mu.Lock()
				defer mu.Unlock()
				require.NoError(t, err)
				require.Equal(t, perPartition[r.Partition], r.Offset)
				perPartition[r.Partition]++
			}))
		}
		require.NoError(t, c.Flush(within(t)))

		k, err := c.Subscribe(within(t), client.Subscription{Topic: "t", CreditBytes: 1})
		require.NoError(t, err)
		defer k.Close()
		next := map[int]uint64{}
		last := map[string]string{}
		for range n {
			m, err := k.Next(within(t))
			require.NoError(t, err)
			require.Equal(t, next[m.Partition], m.Offset)
			next[m.Partition]++
			require.Less(t, last[string(m.Key)], string(m.Value), "messages of one key stay in order")
			last[string(m.Key)] = string(m.Value)
			require.Equal(t, string(m.Value), string(m.Header("n")))
		}
		require.Equal(t, perPartition, next)
		for p := range 3 {
			o, err := c.Offsets(within(t), "t", p, client.End())
			require.NoError(t, err)
			require.Equal(t, next[p], o.Offset)
			f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", Partition: p, From: client.Last()})
			require.NoError(t, err)
			require.Len(t, f.Messages, 1)
			require.Equal(t, next[p]-1, f.Messages[0].Offset)
		}
	})
}

func TestARealBrokerServesEveryCodec(t *testing.T) {
	for _, codec := range []wire.Codec{wire.CodecS2, wire.CodecZstd, wire.CodecLZ4} {
		b := servertest.Start(t, servertest.Options{})
		c := connect(t, b, client.Options{Dialer: b.Dial, Codec: codec, Linger: 5 * time.Millisecond})
		for i := range 300 {
			require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "t", Value: []byte(value(i))}, nil))
		}
		require.NoError(t, c.Flush(within(t)))
		f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(100)})
		require.NoError(t, err)
		require.Len(t, f.Messages, 200)
		require.Equal(t, value(100), string(f.Messages[0].Value))
	}
}

func TestARealBrokerRunsAQueue(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		_, err := c.CreateTopic(within(t), "jobs", client.TopicOptions{Partitions: 2})
		require.NoError(t, err)
		const n = 1000
		for i := range n {
			require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "jobs", Value: []byte(value(i))}, nil))
		}
		require.NoError(t, c.Flush(within(t)))
		s := client.Queue("workers", "jobs")
		s.Workers, s.BackoffMin, s.BackoffMax, s.MaxDeliveries = 4, 5*time.Millisecond, 10*time.Millisecond, 3
		var mu sync.Mutex
		handled := map[string]int{}
		settled := 0
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		err = c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
			mu.Lock()
			defer mu.Unlock()
			defer func() {
				if settled == n {
					cancel()
				}
			}()
			v := string(m.Value)
			if handled[v]++; v == value(7) {
				if m.Attempt == 3 {
					settled++
				}
				return errors.New("always")
			}
			if v == value(8) && m.Attempt == 1 {
				return client.RetryAfter(time.Millisecond, errors.New("once"))
			}
			settled++
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, handled, n)
		require.Equal(t, 3, handled[value(7)])
		require.Equal(t, 2, handled[value(8)])

		var dead client.Fetched
		require.Eventually(t, func() bool {
			dead, err = c.Fetch(within(t), client.FetchRequest{Topic: "jobs.workers.dlq", MaxWait: time.Second})
			return err == nil && len(dead.Messages) == 1
		}, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, value(7), string(dead.Messages[0].Value))
		require.Equal(t, "always", string(dead.Messages[0].Header("rafka-dead-reason")))
		// The broker marks a dead letter done in its queue after it is in its topic.
		require.Eventually(t, func() bool {
			infos, err := c.Groups(within(t), "workers")
			return err == nil && len(infos) == 2 && infos[0].Lag+infos[1].Lag == 0 &&
				infos[0].InFlight+infos[1].InFlight == 0
		}, 10*time.Second, 10*time.Millisecond)
	})
}

func TestAGroupGoesOnOverRestarts(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{})
	const n = 600
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "t", Value: []byte(value(i))}, nil))
		}
		require.NoError(t, c.Flush(within(t)))
	}
	publish(0, n/2)
	s := client.Group("g", "t")
	s.CommitInterval = 5 * time.Millisecond
	var next atomic.Int64
	ctx, cancel := context.WithCancel(within(t))
	ran := make(chan error)
	go func() {
		ran <- c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
			if i := int64(m.Offset); i > next.Load() {
				return client.ErrStop // a gap: the test fails below
			} else if i == next.Load() {
				next.Add(1)
			}
			return nil
		})
	}()
	require.Eventually(t, func() bool { return next.Load() == n/2 }, 10*time.Second, time.Millisecond)
	b.Restart()
	publish(n/2, n)
	// What was handled before the broker knew the member again is handled once more, and committed then.
	require.Eventually(t, func() bool {
		offsets, err := c.Committed(within(t), "g", "t")
		return err == nil && offsets[0] == n
	}, 20*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
	require.EqualValues(t, n, next.Load())
}

func TestEveryPublishHasOneOutcomeOverRestarts(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{})
	_, err := c.EnsureTopic(within(t), "t", client.TopicOptions{Partitions: 1})
	require.NoError(t, err)
	const n = 30_000
	var mu sync.Mutex
	acked, unknown, outcomes := map[string]bool{}, 0, 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			v := value(i)
			require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "t", Value: []byte(v)}, func(_ client.Receipt, err error) {
				mu.Lock()
				defer mu.Unlock()
				outcomes++
				switch {
				case err == nil:
					acked[v] = true
				case errors.Is(err, client.ErrUnknownOutcome):
					unknown++
				default:
					require.NoError(t, err)
				}
			}))
		}
	})
	for range 3 {
		b.Restart()
	}
	wg.Wait()
	require.NoError(t, c.Flush(within(t)))
	require.Equal(t, n, outcomes)

	stored := map[string]int{}
	last := ""
	for next := uint64(0); ; {
		f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(next)})
		require.NoError(t, err)
		for _, m := range f.Messages {
			stored[string(m.Value)]++
			require.Less(t, last, string(m.Value), "in order")
			last = string(m.Value)
		}
		if next = f.Next; next == f.Visible {
			break
		}
	}
	for v := range acked {
		require.Equal(t, 1, stored[v], v)
	}
	require.LessOrEqual(t, len(stored), len(acked)+unknown)
}

// A batch that is larger than what may be unanswered at once is sent alone.
func TestABatchLargerThanWhatMayBeUnanswered(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir(), MaxInFlightBytes: 1 << 10}})
	c := connect(t, b, client.Options{})
	const n = 100
	value := make([]byte, 5<<10)
	for range n {
		require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "t", Value: value}, func(_ client.Receipt, err error) {
			if err != nil {
				t.Error(err)
			}
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	require.Len(t, stored(t, c, "t", 0), n)
}
