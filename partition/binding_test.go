package partition

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A subject that a topic has before and after a change of its subjects is the topic's at every moment in between.
func TestASubjectThatStaysIsNeverUnbound(t *testing.T) {
	n := openNode(t, "", Options{})
	topic := n.create("jobs", 1)
	var stop, lost atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if n.Bound([]byte("jobs")) != topic {
				lost.Store(true)
			}
		}
	})
	for range 5000 {
		for _, subjects := range []string{"jobs,other.*", ""} {
			_, err := n.Alter("jobs", 0, pairs("subjects", subjects))
			require.NoError(t, err)
		}
	}
	stop.Store(true)
	wg.Wait()
	require.False(t, lost.Load())
}

// What a topic is bound to changes with it, whatever others are bound to.
func TestBindingsFollowTheirTopics(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	f := func(want string, subjects ...string) {
		t.Helper()
		for _, s := range subjects {
			got := ""
			if topic := n.Bound([]byte(s)); topic != nil {
				got = topic.Name()
			}
			require.Equal(t, want, got, s)
		}
	}
	refused := func(name, subjects string) {
		t.Helper()
		_, err := n.Create(name, 1, pairs("subjects", subjects))
		require.ErrorIs(t, err, wire.CodeInvalid)
	}
	n.create("own", 1)
	n.create("none", 1, "subjects", "none")
	n.create("some", 1, "subjects", "x.*.a,x.b.>,lit")
	n.create("wild", 1, "subjects", "*.x.1,*.no")
	check := func() {
		t.Helper()
		f("own", "own")
		f("some", "x.1.a", "x.b.c.d", "lit")
		f("wild", "a.x.1")
		f("", "none", "some", "wild", "x.b", "x.1.b", "own.a", "", "$SYS.x.1", "_INBOX.x.1", "_INBOXES.x.1")
		refused("other", "lit")
		refused("other", "*")
		refused("other", "x.1.*")
		refused("other", "q.x.1")
		refused("lit", "")
		refused("x.q.a", "")
	}
	check()
	n.reopen()
	check()

	alter := func(name, subjects string) {
		t.Helper()
		_, err := n.Alter(name, 0, pairs("subjects", subjects))
		require.NoError(t, err)
	}
	alter("some", "lit,x.*.a") // its own do not stand in its way
	f("some", "lit", "x.1.a")
	f("", "x.b.c.d")
	alter("some", "")
	f("some", "some")
	f("", "lit", "x.1.a")
	alter("own", "lit,$SYS")
	f("own", "lit", "$SYS")
	f("", "own")
	require.NoError(t, n.Delete("wild"))
	f("", "a.x.1")
	n.create("y", 1, "subjects", "*.x.1")
	f("y", "a.x.1")
	require.Len(t, n.bound.of, 3)
	require.Equal(t, 3, n.bound.index.Len())
}
