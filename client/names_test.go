package client_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// A name that is none is refused, and nothing else that the client does is disturbed.
func TestANameThatIsNoneCostsNoConnection(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	lost := make(chan error, 100)
	c := connect(t, b, client.Options{Dialer: b.Dial, OnDisconnect: func(err error) { lost <- err }})
	ctx := within(t)
	_, err := c.CreateTopic(ctx, "t", client.TopicOptions{})
	require.NoError(t, err)
	f := func(name string, group bool) {
		t.Helper()
		topic, known := name, "t"
		if group {
			topic = known
		}
		calls := map[string]func() error{
			"committed": func() error { _, err := c.Committed(ctx, name, topic); return err },
			"commit":    func() error { return c.Commit(ctx, name, topic, map[int]uint64{0: 0}) },
			"pending":   func() error { _, err := c.Pending(ctx, topic, name, 0, 0, 1); return err },
			"discard": func() error {
				_, err := c.Discard(ctx, topic, name, 0, []wire.PendingRange{{First: 0, Count: 1}})
				return err
			},
			"seek":       func() error { return c.SeekGroup(ctx, name, topic, map[int]uint64{0: 0}) },
			"open queue": func() error { _, err := c.OpenQueue(ctx, client.Queue(name, topic)); return err },
			"open group": func() error {
				g, err := c.OpenGroup(ctx, client.Group(name, topic))
				if err == nil {
					_, err = g.Fetch(ctx, 1)
					_ = g.Close(ctx)
				}
				return err
			},
		}
		if !group {
			maps.Copy(calls, map[string]func() error{
				"create":    func() error { _, err := c.CreateTopic(ctx, topic, client.TopicOptions{}); return err },
				"describe":  func() error { _, err := c.Topic(ctx, topic); return err },
				"delete":    func() error { return c.DeleteTopic(ctx, topic) },
				"purge":     func() error { return c.PurgeTopic(ctx, topic, 0, client.PurgeAll) },
				"publish":   func() error { _, err := c.Publish(ctx, &client.Message{Topic: topic}); return err },
				"fetch":     func() error { _, err := c.Fetch(ctx, client.FetchRequest{Topic: topic}); return err },
				"get":       func() error { _, err := c.Get(ctx, topic, []byte("k")); return err },
				"offsets":   func() error { _, err := c.Offsets(ctx, topic, 0, client.End()); return err },
				"cancel":    func() error { _, err := c.CancelScheduled(ctx, topic, 0, 1); return err },
				"schedule":  func() error { _, err := c.Schedule(ctx, topic, 0, 1); return err },
				"subscribe": func() error { _, err := c.Subscribe(ctx, client.Subscription{Topic: topic}); return err },
			})
		}
		for what, call := range calls {
			err := call()
			if name != "" { // which means all groups, or is a group that nobody knows
				require.Error(t, err, "%s %.20q", what, name)
			}
			require.NotErrorIs(t, err, client.ErrConnectionLost, "%s %.20q", what, name)
			require.NotErrorIs(t, err, wire.CodeMalformed, "%s %.20q", what, name)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 256), strings.Repeat("x", 1<<16+3)} {
		f(name, false)
		f(name, true)
	}
	require.Empty(t, lost)
}
