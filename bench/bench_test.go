package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

func load(t *testing.T, b *servertest.Broker) Load {
	t.Helper()
	return Load{
		Server: b.Addr, Topic: "load", Messages: 500, Size: 100, Partitions: 3,
		Options: client.Options{Dialer: b.Dial},
	}
}

func TestEveryLoadCountsWhatItDid(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	for name, run := range map[string]func(context.Context, Load) (Result, error){
		"publish": Publish, "fetch": Fetch, "subscribe": Subscribe, "round trip": RoundTrip,
	} {
		l := load(t, b)
		l.Topic = "load-" + string(name[0])
		r, err := run(t.Context(), l)
		require.NoError(t, err, name)
		require.Equal(t, uint64(500), r.Messages, name)
		require.Equal(t, uint64(50_000), r.Bytes, name)
		require.Positive(t, r.MessagesPerSecond, name)
	}
	l := load(t, b)
	l.Readers = 3
	r, err := PubSub(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, uint64(1500), r.Messages)
}

func TestADurationEndsThePublishing(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Messages, l.Duration, l.Rate = 0, 50*time.Millisecond, 1000 // so the last one is due after 49 ms
	r, err := Publish(t.Context(), l)
	require.NoError(t, err)
	require.LessOrEqual(t, r.Messages, uint64(50))

	l.Readers = 3
	r, err = PubSub(t.Context(), l)
	require.NoError(t, err)
	require.Positive(t, r.Messages)
	require.Zero(t, r.Messages%3, "every subscriber receives everything")
	require.LessOrEqual(t, r.Messages, uint64(150))
}

func TestSubscribersEndWhenThePublishingFails(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Size = 2 << 20 // larger than a message may be
	_, err := PubSub(t.Context(), l)
	require.ErrorIs(t, err, wire.CodeTooLarge)
}

func TestClientsWithOneMessageInFlightShareTheMessages(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Messages, l.Clients, l.Keys, l.Partitions = 10, 4, 2, 1
	r, err := RoundTrip(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, uint64(10), r.Messages)
	require.NotNil(t, r.Latency)

	c, err := client.Dial(t.Context(), b.Addr, l.Options)
	require.NoError(t, err)
	defer func() { _ = c.Close(t.Context()) }()
	f, err := c.Fetch(t.Context(), client.FetchRequest{Topic: l.Topic})
	require.NoError(t, err)
	keys := map[string]int{}
	for _, m := range f.Messages {
		keys[string(m.Key)]++
	}
	require.Equal(t, map[string]int{"key-0": 6, "key-1": 4}, keys) // clients with 3, 3, 2 and 2 messages
}

// A topic that has more than what is asked for is not read to its end.
func TestOnlyWhatIsAskedForIsRead(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	_, err := Publish(t.Context(), l)
	require.NoError(t, err)
	l.Messages, l.Readers = 301, 3
	for name, run := range map[string]func(context.Context, Load) (Result, error){
		"fetch": Fetch, "subscribe": Subscribe, "queue": Queue,
	} {
		r, err := run(t.Context(), l)
		require.NoError(t, err, name)
		require.Equal(t, uint64(301), r.Messages, name)
		require.Equal(t, uint64(30_100), r.Bytes, name)
	}
}

func TestAQueueIsReadAsOftenAsAsked(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Duration = time.Second // ignored: a queue reads what the topic has
	for range 2 {
		r, err := Queue(t.Context(), l)
		require.NoError(t, err)
		require.Equal(t, uint64(500), r.Messages)
	}
	c, err := client.Dial(t.Context(), b.Addr, l.Options)
	require.NoError(t, err)
	defer func() { _ = c.Close(t.Context()) }()
	left, err := c.Groups(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, left, "no queue stays behind")
}

func TestAnOpenLoopCountsFromTheDueTime(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Messages, l.Rate, l.Clients = 200, 2000, 2
	r, err := Publish(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, uint64(200), r.Messages)
	require.NotNil(t, r.Latency)
	require.GreaterOrEqual(t, r.Seconds, 0.09, "200 messages at 2,000 a second take a tenth of a second")
}

func TestDurableLoadsReachTheDisk(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: t.TempDir()}})
	l := load(t, b)
	l.Clients, l.Messages = 4, 101
	r, err := Durable(t.Context(), l)
	require.NoError(t, err)
	require.Equal(t, uint64(101), r.Messages)
}

func TestMediansAndVerdicts(t *testing.T) {
	f := Figure{Rounds: []float64{9, 1, 5}, Floors: []float64{10, 10, 10}}
	f.judge(&scenario{Goal: 0.5})
	require.Equal(t, []any{5.0, 10.0, 0.5, true}, []any{f.Ours, f.Floor, f.Ratio, f.OK})
	f.judge(&scenario{Goal: 0.4, Less: true})
	require.False(t, f.OK)
}

// program builds the broker and returns its path.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rafka")
	out, err := exec.Command("go", "build", "-o", path, "github.com/rafka-mq/rafka/cmd/rafka").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// TestCompareMeasures runs a few real scenarios, with the built program as broker and floor.
func TestCompareMeasures(t *testing.T) {
	path := program(t)
	for _, only := range []string{"16 B x 1", "round trip p50", "one in flight", "fetch from memory"} {
		r, err := Compare(t.Context(), Config{Program: path, Rounds: 1, Duration: 20 * time.Millisecond, RoundTrips: 50, Syncs: 5, Only: only, Dir: t.TempDir()})
		require.NoError(t, err, only)
		require.Len(t, r.Figures, 1, only)
		require.Positive(t, r.Figures[0].Ours, only)
		require.Positive(t, r.Figures[0].Floor, only)
		require.Contains(t, r.Markdown(), r.Figures[0].Name)
		require.Contains(t, r.Text(), r.Figures[0].Target)
	}
}

// A directory that is reopened again and again grows, keeps every record, and is removed at the end.
func TestReopeningChecksWhatIsThere(t *testing.T) {
	c := Config{Program: program(t), Dir: t.TempDir()}
	g := &grown{bytes: 1 << 20}
	for i, end := range []func(*process) error{(*process).kill, (*process).terminate, (*process).kill} {
		took, err := g.reopen(&c, end)
		require.NoError(t, err)
		require.Positive(t, took)
		require.Equal(t, uint64(i+1)*1025, g.end)
	}
	g.end++
	_, err := g.reopen(&c, (*process).kill)
	require.ErrorContains(t, err, "the next record has offset")
	require.NoError(t, g.remove())
	left, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAWaitForAMessageThatIsDueLaterEndsWithItsContext(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	l := load(t, b)
	l.Rate, l.Clients = 1, 60 // so the second message of each client is due after a minute
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Publish(ctx, l)
		done <- err
	}()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(20 * time.Second):
		t.Fatal("the load goes on")
	}
}
