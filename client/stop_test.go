package client_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
)

// slowly takes 1 to 5 ms for a message, so that much is fetched ahead when the broker stops.
func slowly(ctx context.Context, m *client.Message) error {
	return sleepFor(ctx, time.Duration(1+m.Offset%5)*time.Millisecond)
}

func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count returns how many messages were handled, and how many of them more than once.
func (k *crewOf) count() (handled, again int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.handled {
		handled++
		again += min(1, n-1)
	}
	return handled, again
}

func (k *crewOf) waitForHandled(n int) {
	k.t.Helper()
	k.eventually(fmt.Sprint(n, " messages"), func() bool { return len(k.handled) >= n })
}

// hourly makes a group commit only when something ends.
func hourly(s *client.Source) { s.CommitInterval, s.Workers = time.Hour, 2 }

// Members that are busy when a broker is stopped in order handle each message once. So they do when it only says that it
// stops, and they come back to it under the same generations.
func TestAGroupHandlesNothingAgainAfterAnOrderlyStop(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for name, stop := range map[string]func(k *crewOf){
		"restart": func(k *crewOf) { k.b.Restart() },
		"notice":  func(k *crewOf) { k.b.Server.LameDuck(ended, time.Minute, 0) },
		"both": func(k *crewOf) {
			k.b.Server.LameDuck(ended, time.Minute, 0)
			k.waitForHandled(300)
			k.b.Restart()
			k.waitForHandled(500)
			k.b.Restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCrew(t, 3, server.Options{Dir: t.TempDir()})
			for p := range 3 {
				k.publish(p, 300)
			}
			k.run("a", groupOf(hourly), slowly)
			k.run("b", groupOf(hourly), slowly)
			k.waitForHandled(100)
			stop(k)
			k.waitForHandled(900)
			handled, again := k.count()
			require.Equal(t, 900, handled)
			require.Zero(t, again)
		})
	}
}

// A broker that stops does not wait for a handler that takes long. Only that message is handled again.
func TestOnlyTheMessageOfASlowHandlerIsHandledAgain(t *testing.T) {
	k := newCrew(t, 2, server.Options{Dir: t.TempDir()})
	k.publish(0, 100)
	k.publish(1, 100)
	reached, back := make(chan struct{}), make(chan struct{})
	var once sync.Once
	k.run("a", groupOf(hourly), func(_ context.Context, m *client.Message) error {
		if m.Partition == 0 && m.Offset == 50 {
			once.Do(func() { close(reached) })
			<-back
		}
		return nil
	})
	<-reached
	k.waitForHandled(150)
	k.b.Restart()
	k.publish(1, 100)
	k.waitForHandled(250)
	close(back)
	k.waitForHandled(300)
	handled, again := k.count()
	require.Equal(t, 300, handled)
	require.Equal(t, 1, again)
	require.Equal(t, 2, k.handled["0@50"])
}

// A handler that publishes has to wait for the next broker, which does not know the member. So its message is handled
// again, but no other.
func TestOnlyTheMessagesOfHandlersThatPublishAreHandledAgain(t *testing.T) {
	k := newCrew(t, 3, server.Options{Dir: t.TempDir()})
	for p := range 3 {
		k.publish(p, 200)
	}
	k.run("a", groupOf(hourly), func(ctx context.Context, m *client.Message) error {
		_, err := k.c.Publish(ctx, &client.Message{Topic: "results", Value: m.Value})
		return err
	})
	k.waitForHandled(100)
	k.b.Restart()
	k.waitForHandled(600)
	_, again := k.count()
	require.LessOrEqual(t, again, 2, "one for each worker")
}

// The messages that a program has fetched when the broker stops are committed when it is done with them in time.
func TestFetchedMessagesAreCommittedWhileTheBrokerStops(t *testing.T) {
	k := newCrew(t, 3, server.Options{Dir: t.TempDir()})
	for p := range 3 {
		k.publish(p, 100)
	}
	g, err := k.c.OpenGroup(within(t), groupOf(hourly))
	require.NoError(t, err)
	restarted := make(chan struct{})
	for n := 0; n < 300; {
		ms, err := g.Fetch(within(t), 7)
		require.NoError(t, err)
		if before := n; before < 100 && n+len(ms) >= 100 {
			go func() {
				defer close(restarted)
				k.b.Restart()
			}()
		}
		for _, m := range ms {
			require.NoError(t, slowly(t.Context(), m))
			k.note("g", m)
		}
		n += len(ms)
	}
	<-restarted
	_, again := k.count()
	require.Zero(t, again)
	require.NoError(t, g.Commit(within(t)))
	require.NoError(t, g.Close(within(t)))
}

// When no broker comes back, the members wait, and end when they are told to.
func TestMembersEndWhileNoBrokerComesBack(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 2000)
	k.publish(1, 2000)
	stopped := k.run("a", groupOf(hourly), slowly)
	c := connect(t, k.b, client.Options{Dialer: k.b.Dial})
	closed := make(chan error, 1)
	go func() { closed <- c.Run(context.Background(), groupOf(hourly), slowly) }()
	g, err := c.OpenGroup(within(t), groupOf(hourly, func(s *client.Source) { s.Name = "other" }))
	require.NoError(t, err)
	_, err = g.Fetch(within(t), 1)
	require.NoError(t, err)
	require.NoError(t, g.Commit(within(t)))
	k.waitForHandled(20)
	k.b.Stop()
	soon, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	_, err = g.Fetch(soon, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	stopped.end()
	require.NoError(t, c.Close(within(t)))
	require.ErrorIs(t, <-closed, client.ErrClosed)
}
