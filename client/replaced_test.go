package client_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// A broker whose data was lost counts offsets and generations from the start again, so nothing but its id
// tells its topic from the earlier one.
func TestProgressOnALostTopicIsNotCommittedOnTheNextOne(t *testing.T) {
	var now atomic.Pointer[servertest.Broker]
	dialer := func(ctx context.Context, addr string) (net.Conn, error) { return now.Load().Dial(ctx, addr) }
	start := func() (*servertest.Broker, *client.Client) {
		b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: t.TempDir()}})
		now.Store(b)
		c := connect(t, b, client.Options{Dialer: b.Dial})
		for i := range 10 {
			_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(value(i))})
			require.NoError(t, err)
		}
		return b, c
	}
	first, _ := start()
	c := connect(t, first, client.Options{Dialer: dialer})
	g := fetcher(t, c, func(s *client.Source) { s.CommitInterval = time.Hour })
	_, got := fetch(t, g, 5)
	require.Len(t, got, 5)
	fetch(t, g, 1) // what the first one returned is done

	_, admin := start()
	first.Stop()
	_, err := g.Fetch(within(t), 1)
	for err == nil {
		_, err = g.Fetch(within(t), 1)
	}
	require.ErrorIs(t, err, wire.CodeTopicDeleted)
	require.NoError(t, g.Close(within(t)))
	committed, err := admin.Committed(within(t), "g", "t")
	require.NoError(t, err)
	require.Zero(t, committed[0], "nothing of the new topic is handled")
}

// A broker that was restored from a backup gives out generations once more, on the same topics. A member of the time
// before begins where the group is there, and commits nothing of its own.
func TestProgressFromBeforeARestoreIsForgotten(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	var now atomic.Pointer[servertest.Broker]
	dialer := func(ctx context.Context, addr string) (net.Conn, error) { return now.Load().Dial(ctx, addr) }
	start := func(dir string) (*servertest.Broker, *client.Client) {
		b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: dir}})
		now.Store(b)
		return b, connect(t, b, client.Options{Dialer: b.Dial})
	}
	publish := func(c *client.Client, value string) {
		for range 10 {
			_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(value)})
			require.NoError(t, err)
		}
	}
	first, admin := start(dir)
	_, err := admin.CreateTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	first.Stop()
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	first, admin = start(dir)
	publish(admin, "lost")
	c := connect(t, first, client.Options{Dialer: dialer})
	g := fetcher(t, c, func(s *client.Source) { s.CommitInterval = time.Hour })
	for n := 0; n < 10; {
		_, got := fetch(t, g, 10)
		n += len(got)
	}

	second, admin := start(copied)
	publish(admin, "new")
	first.Stop()
	for n := 0; n < 10; {
		ms, err := g.Fetch(within(t), 10)
		require.NoError(t, err)
		for _, m := range ms {
			require.Equal(t, "new", string(m.Value))
			require.EqualValues(t, n, m.Offset)
			n++
		}
	}
	require.ErrorIs(t, g.Commit(within(t)), client.ErrPartitionLost, "of what the restored broker does not have")
	committed, err := admin.Committed(within(t), "g", "t")
	require.NoError(t, err)
	require.EqualValues(t, 10, committed[0])
	require.NoError(t, g.Close(within(t)))
	second.Stop()
}
