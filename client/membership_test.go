package client

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// joins notes the member ids that join, and swallows what deaf names.
type joins struct {
	mu   sync.Mutex
	ids  []string
	deaf wire.Op
}

func (j *joins) hook(_ *fakeConn, f wire.Frame) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	var m wire.JoinGroup
	if f.Op == wire.OpJoinGroup && m.Parse(f.Body) == nil {
		j.ids = append(j.ids, m.Member)
	}
	return f.Op == j.deaf
}

func (j *joins) seen() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.ids...)
}

func (j *joins) setDeaf(op wire.Op) {
	j.mu.Lock()
	j.deaf = op
	j.mu.Unlock()
}

func TestAStalledMemberConnectsAgainAndSaysSo(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var j joins
	b.setHook(j.hook)
	stalls := make(chan Stall, 100)
	c := dial(t, b, Options{OnStall: func(s Stall) {
		select {
		case stalls <- s:
		default:
		}
	}})
	s := Group("g", "t")
	s.SessionTimeout, s.CommitInterval = 100*time.Millisecond, time.Millisecond
	var handled atomic.Uint64
	ctx, cancel := context.WithCancel(within(t))
	ran := make(chan error)
	go func() {
		ran <- c.Run(ctx, s, func(_ context.Context, m *Message) error {
			handled.Store(m.Offset + 1)
			return nil
		})
	}()
	b.fill("t", 0, 1, texts(3)...)
	eventually(t, func() bool { return handled.Load() == 3 })
	j.setDeaf(wire.OpHeartbeat)
	stall := <-stalls
	require.Equal(t, "heartbeat", stall.What)
	require.Greater(t, stall.For, 2*s.SessionTimeout/4)
	j.setDeaf(0)
	eventually(t, func() bool { return len(j.seen()) > 1 })
	b.fill("t", 0, 1, texts(3)...)
	eventually(t, func() bool { return handled.Load() == 6 })
	require.NotZero(t, c.Stalls())
	ids := j.seen()
	require.Equal(t, ids[0], ids[len(ids)-1], "it is the same member")
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
	require.Positive(t, b.count(wire.OpLeaveGroup))
}

// A member whose connection was lost begins no message when others may have its partitions, and goes on when the broker
// has taken it again.
func TestAMemberWithoutAConnectionBeginsNothing(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var j joins
	b.setHook(j.hook)
	c := dial(t, b, Options{})
	g, err := c.OpenGroup(within(t), Group("g", "t"))
	require.NoError(t, err)
	b.fill("t", 0, 1, texts(2)...)
	ms, err := g.Fetch(within(t), 1)
	require.NoError(t, err)
	require.Zero(t, ms[0].Offset)
	j.setDeaf(wire.OpJoinGroup) // it connects again, but is no member
	b.cut()
	eventually(t, g.r.held.Load)
	j.setDeaf(0)
	b.cut()
	eventually(t, func() bool { return !g.r.held.Load() })
	ms, err = g.Fetch(within(t), 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, ms[0].Offset)
	require.NoError(t, g.Close(within(t)))
}

func TestAMemberJoinsAgainWhenItIsNotKnown(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	var j joins
	unknown := true
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		j.hook(c, f)
		if f.Op == wire.OpHeartbeat && unknown {
			unknown = false
			c.fail(f, wire.Errorf(wire.CodeNotMember, "who"))
			return true
		}
		return false
	})
	c := dial(t, b, Options{})
	s := Group("g", "t")
	s.SessionTimeout = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(within(t))
	ran := make(chan error)
	go func() { ran <- c.Run(ctx, s, func(context.Context, *Message) error { return nil }) }()
	eventually(t, func() bool { return len(j.seen()) == 2 })
	require.Equal(t, j.seen()[0], j.seen()[1])
	cancel()
	<-ran
}

// A commit that is refused because another member has the partition ends the work on it, and the
// others are committed nevertheless.
func TestAFencedCommitConcernsItsPartitionOnly(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 2)
	b.fill("t", 0, 1, texts(2)...)
	b.fill("t", 1, 1, texts(2)...)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		var m wire.Commit
		if f.Op != wire.OpCommit || m.Parse(f.Body) != nil {
			return false
		}
		for _, o := range m.Offsets {
			if o.Partition == 1 && o.Offset > 0 {
				c.fail(f, wire.Errorf(wire.CodeFenced, "it is another's"))
				return true
			}
		}
		return false
	})
	var fenced atomic.Int32
	c := dial(t, b, Options{OnError: func(err error) {
		if wire.CodeOf(err) == wire.CodeFenced {
			fenced.Add(1)
		}
	}})
	s := Group("g", "t")
	s.CommitInterval = time.Millisecond
	ctx, cancel := context.WithCancel(within(t))
	ran := make(chan error)
	go func() { ran <- c.Run(ctx, s, func(context.Context, *Message) error { return nil }) }()
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return topic.committed["g"][0] == 2
	})
	eventually(t, func() bool { return fenced.Load() > 0 })
	cancel()
	<-ran
	b.locked(func() { require.Zero(t, topic.committed["g"][1]) })
}

// A member that begins on partitions which the next topic of the name does not have goes on with its next assignment.
func TestAMemberOutlivesPartitionsOfAnEarlierTopic(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(1)...)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpOffsets {
			return false
		}
		b.setHook(nil)
		c.fail(f, wire.Errorf(wire.CodePartitionNotFound, "topic %q has no such partition", "t"))
		return true
	})
	s := Group("g", "t")
	s.SessionTimeout = 100 * time.Millisecond
	err := dial(t, b, Options{}).Run(within(t), s, func(context.Context, *Message) error { return ErrStop })
	require.NoError(t, err)
}

// A member that gives up before it hears that it has joined leaves all the same: its partitions are not kept from others
// until its session times out.
func TestWhoDoesNotWaitForItsJoinLeaves(t *testing.T) {
	nothing := func(context.Context, *Message) error { return nil }
	for name, begin := range map[string]func(context.Context, *Client) error{
		"run":  func(ctx context.Context, c *Client) error { return c.Run(ctx, Group("g", "t"), nothing) },
		"open": func(ctx context.Context, c *Client) error { _, err := c.OpenGroup(ctx, Group("g", "t")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			b.create("t", 1)
			ctx, cancel := context.WithCancel(within(t))
			b.setHook(func(_ *fakeConn, f wire.Frame) bool {
				if f.Op == wire.OpJoinGroup {
					cancel()
				}
				return f.Op == wire.OpJoinGroup
			})
			require.ErrorIs(t, begin(ctx, dial(t, b, Options{})), context.Canceled)
			eventually(t, func() bool { return b.count(wire.OpLeaveGroup) == 1 })
		})
	}
}

func TestOpenGroupSaysWhyTheBrokerRefuses(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpJoinGroup {
			return false
		}
		c.fail(f, wire.Errorf(wire.CodeForbidden, "not you"))
		return true
	})
	_, err := dial(t, b, Options{}).OpenGroup(within(t), Group("g", "t"))
	require.ErrorIs(t, err, wire.CodeForbidden)
}
