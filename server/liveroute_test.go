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

func (c *catcher) nobody(*liveSub, *message) {}

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
