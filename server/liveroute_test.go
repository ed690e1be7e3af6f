package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// catcher is a receiver on a loop that keeps the payloads that it gets.
type catcher struct {
	s   *session
	got []string
}

func (c *catcher) at() *session { return c.s }

func (c *catcher) deliver(sub *liveSub, m *message) bool {
	if sub.Gone() {
		return false
	}
	c.got = append(c.got, string(m.Payload))
	return true
}

func (c *catcher) nobody(_ *liveSub, m *message) {
	c.got = append(c.got, "nobody for "+string(m.Subject))
}

// A TLS connection has a loop of its own, which ends with it. Messages that are on their way to it then go to the others of
// the queue group.
func TestWhatAnEndedLoopDoesNotTakeGoesToOthersOfTheGroup(t *testing.T) {
	srv := startServer(t, Options{})
	here, there := newLoop(srv), newLoop(srv)
	here.ring, there.ring = func() {}, func() {}
	subscribe := func(l *loop, queue string) (*catcher, *liveSub) {
		c := &catcher{s: &session{loop: l}}
		return c, srv.live.Insert([]byte("jobs"), []byte(queue), nil, live{to: c})
	}
	_, leaves := subscribe(there, "q")
	_, alone := subscribe(there, "")
	for _, value := range []string{"1", "2"} {
		here.route(newMessage([]byte("jobs"), []byte(value)))
	}
	stays, _ := subscribe(here, "q")
	srv.live.Remove(leaves)
	srv.live.Remove(alone)
	there.finish(time.Now())
	here.sendHandoffs()
	require.Equal(t, []string{"1", "2"}, stays.got)
	require.Zero(t, there.mail.Load())
}

// Loops share one copy of the messages for them, which is used again when the last loop has delivered them.
func TestLoopsShareTheMessagesForThem(t *testing.T) {
	srv := startServer(t, Options{})
	here := newLoop(srv)
	var others []*loop
	var catchers []*catcher
	for range 3 {
		l := newLoop(srv)
		l.ring = func() {}
		others = append(others, l)
		catchers = append(catchers, &catcher{s: &session{loop: l}})
	}
	subscribe := func(pattern string, c *catcher) {
		srv.live.Insert([]byte(pattern), nil, nil, live{to: c})
	}
	for _, c := range catchers {
		subscribe("all", c)
		subscribe("all", c)
	}
	subscribe("one", catchers[1])
	here.route(newMessage([]byte("all"), []byte("1")))
	here.route(newMessage([]byte("one"), []byte("2")))
	here.route(newMessage([]byte("all"), []byte("3")))
	shared := here.load
	require.Equal(t, "all1one2all3", string(shared.bytes))
	here.sendHandoffs()
	require.Nil(t, here.load)
	others[2].finish(time.Now()) // it delivers what it took
	here.route(newMessage([]byte("all"), []byte("4")))
	require.NotSame(t, shared, here.load)
	for i, l := range others[:2] {
		require.Equal(t, int32(2-i), shared.users.Load())
		require.Equal(t, "all1one2all3", string(shared.bytes))
		l.runInbox(time.Now())
	}
	require.Empty(t, shared.bytes)
	here.sendHandoffs()
	for _, l := range others {
		l.runInbox(time.Now())
		require.Zero(t, l.mail.Load())
	}
	require.Equal(t, []string{"1", "1", "3", "3", "4", "4"}, catchers[0].got)
	require.Equal(t, []string{"1", "1", "2", "3", "3", "4", "4"}, catchers[1].got)
	require.Equal(t, []string{"1", "1", "3", "3"}, catchers[2].got)
}

// A turn with many messages hands them over in parts, of which none is cut.
func TestALargeTurnIsHandedOverInParts(t *testing.T) {
	srv := startServer(t, Options{})
	here, there := newLoop(srv), newLoop(srv)
	there.ring = func() {}
	c := &catcher{s: &session{loop: there}}
	srv.live.Insert([]byte("big"), nil, nil, live{to: c})
	payload := make([]byte, maxHandoff/2-1)
	for range 7 {
		here.route(newMessage([]byte("big"), payload))
	}
	require.Len(t, there.jobs, 3)
	here.sendHandoffs()
	there.runInbox(time.Now())
	require.Len(t, c.got, 7)
	for _, got := range c.got {
		require.Len(t, got, len(payload))
	}
}

// When the only one who could answer a request ends while it is on the way, the requester is told, as if there had been
// nobody at the start.
func TestARequesterLearnsThatTheOnlyResponderEnded(t *testing.T) {
	srv := startServer(t, Options{})
	here, there := newLoop(srv), newLoop(srv)
	here.ring, there.ring = func() {}, func() {}
	subscribe := func(l *loop, pattern, queue string) (*catcher, *liveSub) {
		c := &catcher{s: &session{loop: l}}
		return c, srv.live.Insert([]byte(pattern), []byte(queue), nil, live{to: c})
	}
	asker, _ := subscribe(here, "_INBOX.*", "")
	request := func(subject string) {
		m := newMessage([]byte(subject), nil)
		m.Reply, m.asker = []byte("_INBOX.1"), asker
		require.Equal(t, 1, here.route(m))
	}
	_, grouped := subscribe(there, "jobs", "q")
	_, plain := subscribe(there, "time", "")
	_, leaves := subscribe(there, "both", "q")
	_, quits := subscribe(there, "gone", "q")
	request("jobs")
	request("time")
	request("both")
	srv.live.Remove(grouped)
	srv.live.Remove(plain)
	srv.live.Remove(leaves)
	late, _ := subscribe(here, "both", "other")
	here.sendHandoffs()
	there.runInbox(time.Now())
	require.Empty(t, asker.got, "it is told on its own loop")
	here.runInbox(time.Now())
	told := []string{"nobody for jobs", "nobody for time", "nobody for both"}
	require.Equal(t, told, asker.got, "who came later did not get it")
	require.Empty(t, late.got)

	request("gone")
	srv.live.Remove(quits)
	there.finish(time.Now())
	here.sendHandoffs()
	require.Equal(t, append(told, "nobody for gone"), asker.got)
}

// When several who could answer end while a request is on the way, the requester is told once, and not at all when one
// of them has got it.
func TestARequesterLearnsOnceThatNobodyGotTheRequest(t *testing.T) {
	srv := startServer(t, Options{})
	here, there, elsewhere := newLoop(srv), newLoop(srv), newLoop(srv)
	for _, l := range []*loop{here, there, elsewhere} {
		l.ring = func() {}
	}
	subscribe := func(l *loop, pattern, queue string) (*catcher, *liveSub) {
		c := &catcher{s: &session{loop: l}}
		return c, srv.live.Insert([]byte(pattern), []byte(queue), nil, live{to: c})
	}
	asker, _ := subscribe(here, "_INBOX.*", "")
	request := func() {
		m := newMessage([]byte("time"), nil)
		m.Reply, m.asker = []byte("_INBOX.1"), asker
		here.route(m)
		here.sendHandoffs()
	}
	_, one := subscribe(there, "time", "")
	_, two := subscribe(there, "*", "")
	_, three := subscribe(elsewhere, "time", "")
	_, four := subscribe(elsewhere, "time", "q")
	request()
	for _, sub := range []*liveSub{one, two, three, four} {
		srv.live.Remove(sub)
	}
	there.runInbox(time.Now())
	elsewhere.runInbox(time.Now())
	here.runInbox(time.Now())
	require.Equal(t, []string{"nobody for time"}, asker.got)

	for _, home := range []*loop{here, there} {
		taker, took := subscribe(home, "time", "")
		_, leaves := subscribe(elsewhere, "time", "")
		request()
		there.runInbox(time.Now())
		srv.live.Remove(took)
		srv.live.Remove(leaves)
		elsewhere.runInbox(time.Now())
		here.runInbox(time.Now())
		require.Len(t, taker.got, 1)
		require.Len(t, asker.got, 1, "it was taken")
	}
	_, leaves := subscribe(there, "time", "q")
	other, _ := subscribe(elsewhere, "time", "q")
	request()
	srv.live.Remove(leaves)
	there.runInbox(time.Now())
	there.sendHandoffs()
	elsewhere.runInbox(time.Now())
	here.runInbox(time.Now())
	require.Len(t, other.got, 1, "of the group")
	require.Len(t, asker.got, 1)
}
