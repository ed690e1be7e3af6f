package client_test

import (
	"context"
	"fmt"
	"net"
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

// deafConn is a connection whose owner stops hearing at some moment, while what it says still arrives.
type deafConn struct {
	net.Conn
	deaf *atomic.Bool
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// troubled returns a broker with a topic "t" of two partitions, and a client of it whose connections go deaf and whose
// broker restarts, every few milliseconds until calm is called.
func troubled(t *testing.T, o client.Options) (b *servertest.Broker, c *client.Client, calm func()) {
	t.Helper()
	b = servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	var deaf atomic.Pointer[atomic.Bool]
	o.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		flag := new(atomic.Bool)
		deaf.Store(flag)
		return &deafConn{conn, flag}, err
	}
	c = connect(t, b, o)
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{Partitions: 2})
	require.NoError(t, err)
	stop := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(15 * time.Millisecond):
			}
			if i%6 == 0 {
				b.Restart()
				continue
			}
			deaf.Load().Store(true)
		}
	})
	return b, c, func() {
		close(stop)
		trouble.Wait()
	}
}

// stored returns what a partition holds.
func stored(t *testing.T, c *client.Client, topic string, partition int) []string {
	t.Helper()
	var got []string
	for at := uint64(0); ; {
		f, err := c.Fetch(within(t), client.FetchRequest{Topic: topic, Partition: partition, From: client.At(at)})
		require.NoError(t, err)
		for i := range f.Messages {
			got = append(got, string(f.Messages[i].Value))
		}
		if at = f.Next; len(f.Messages) == 0 {
			return got
		}
	}
}

// Whatever happens to connections and to the broker, every message is there once and in order.
func TestMessagesAreStoredOnce(t *testing.T) {
	for name, codec := range map[string]wire.Codec{"plain": wire.CodecNone, "compressed": wire.CodecS2} {
		t.Run(name, func(t *testing.T) {
			b, c, calm := troubled(t, client.Options{Codec: codec, MaxBatchBytes: 200})
			const n = 4000
			var failed atomic.Int64
			offsets := make([][]uint64, 2)
			var duplicates atomic.Int64
			for i := range n {
				m := &client.Message{Topic: "t", Value: []byte(value(i)), Partition: i % 2, Pinned: true}
				require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
					if err != nil {
						failed.Add(1)
						t.Errorf("message %d: %v", i, err)
						return
					}
					if r.Duplicate {
						duplicates.Add(1)
					}
					offsets[r.Partition] = append(offsets[r.Partition], r.Offset)
				}))
				if i%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			require.NoError(t, c.Flush(within(t)))
			calm()
			require.Zero(t, failed.Load())
			t.Logf("%d messages were sent twice", duplicates.Load())
			reader := connect(t, b, client.Options{})
			for p := range 2 {
				got := stored(t, reader, "t", p)
				require.Len(t, got, n/2)
				for i, v := range got {
					require.Equal(t, value(2*i+p), v)
					require.EqualValues(t, i, offsets[p][i], "the offset that was told")
				}
			}
		})
	}
}

// A message that is refused for good leaves a gap that those behind it do not fall into.
func TestARefusedMessageDoesNotStopTheOthers(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial, MaxBatchBytes: 100})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{Settings: []wire.Setting{{Key: "max_record_bytes", Value: "1000"}}})
	require.NoError(t, err)
	_, err = c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("first")})
	require.NoError(t, err)
	_, err = c.AlterTopic(within(t), "t", client.TopicOptions{Settings: []wire.Setting{{Key: "max_record_bytes", Value: "50"}}})
	require.NoError(t, err)
	var refused, done atomic.Int64
	for i := range 200 {
		v := []byte(value(i))
		if i%10 == 3 {
			v = make([]byte, 80) // the client believes that it may
		}
		require.NoError(t, c.PublishAsync(within(t), &client.Message{Topic: "t", Value: v}, func(_ client.Receipt, err error) {
			if err != nil {
				refused.Add(1)
			} else {
				done.Add(1)
			}
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	require.EqualValues(t, 200, refused.Load()+done.Load())
	require.GreaterOrEqual(t, refused.Load(), int64(20))
	require.Greater(t, done.Load(), int64(100))
	got := stored(t, c, "t", 0)
	require.Len(t, got, int(done.Load())+1)
	seen := map[string]bool{}
	for _, v := range got {
		require.False(t, seen[v], v)
		seen[v] = true
	}
}

// Of two clients with one name the younger one is heard.
func TestAnOlderProducerOfTheSameNameIsFenced(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: t.TempDir()}})
	publish := func(c *client.Client, v string) error {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(v)})
		return err
	}
	old := connect(t, b, client.Options{Dialer: b.Dial, ProducerName: "biller"})
	require.NoError(t, publish(old, "a"))
	time.Sleep(2 * time.Millisecond) // epochs are milliseconds
	young := connect(t, b, client.Options{Dialer: b.Dial, ProducerName: "biller"})
	require.NoError(t, publish(young, "b"))
	require.ErrorIs(t, publish(old, "c"), wire.CodeFenced)
	require.ErrorIs(t, publish(old, "d"), wire.CodeFenced, "and stays it")
	other := connect(t, b, client.Options{Dialer: b.Dial, ProducerName: "other"})
	require.NoError(t, publish(other, "e"))
	b.Restart()
	require.NoError(t, publish(young, "f"))
	require.ErrorIs(t, publish(old, "g"), wire.CodeFenced, "also after a restart")
	require.Equal(t, []string{"a", "b", "e", "f"}, stored(t, young, "t", 0))
}

// A broker that lost what it had acknowledged, because that was only in memory, takes what comes next.
func TestNumberingGoesOnAfterALoss(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial, MaxInFlight: 8})
	for round := range 3 {
		for i := range 20 {
			_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: fmt.Append(nil, round, i)})
			require.NoError(t, err)
		}
		b.Restart() // without a directory: everything is gone
	}
	_, err := client.Dial(within(t), b.Addr, client.Options{Dialer: b.Dial, MaxInFlight: 9})
	require.ErrorContains(t, err, "NoIdempotence")
}

// Whatever happens to connections and to the broker, every scheduled message is published once, also
// beside some that are refused.
func TestScheduledMessagesArePublishedOnce(t *testing.T) {
	b, c, calm := troubled(t, client.Options{})
	const n = 1500
	var mu sync.Mutex
	ids := map[[2]uint64]bool{}
	refused := 0
	for i := range n {
		m := &client.Message{Topic: "t", Value: []byte(value(i)), Partition: i % 2, Pinned: true, Delay: time.Duration(1+i%300) * time.Millisecond}
		if i%300 == 299 {
			m.Delay, m.Cron = 0, "99 * * * *"
		}
		require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ids[[2]uint64{uint64(r.Partition), r.Schedule}] = true
			case wire.CodeOf(err) == wire.CodeInvalid:
				refused++
			default:
				t.Errorf("message %d: %v", i, err)
			}
		}))
		if i%300 >= 298 || i%50 == 0 { // what is refused takes its request along
			require.NoError(t, c.Flush(within(t)))
		}
	}
	require.NoError(t, c.Flush(within(t)))
	calm()
	require.Equal(t, 5, refused)
	require.Len(t, ids, n-5)
	reader := connect(t, b, client.Options{})
	times := map[string]int{}
	require.Eventually(t, func() bool {
		clear(times)
		for p := range 2 {
			for _, v := range stored(t, reader, "t", p) {
				times[v]++
			}
		}
		return len(times) == n-5
	}, 20*time.Second, 10*time.Millisecond)
	for v, k := range times {
		require.Equal(t, 1, k, v)
	}
}
