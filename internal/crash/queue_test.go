package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

// workerVar makes the test binary a worker of a queue at that broker instead of a test.
const workerVar = "RAFKA_CRASH_WORKER"

const (
	keyedTopic  = "keyed"
	keyedQueue  = "sorted"
	timedTopic  = "timed"
	keyCount    = 40
	workerCount = 3
)

// runQueueWorker handles messages until it is killed, and writes down when it began and ended each. One
// in twenty fails, and one in a hundred is rejected.
func runQueueWorker(addr string) {
	o := client.Options{ReconnectMax: 50 * time.Millisecond}
	c, err := client.Dial(context.Background(), addr, o)
	for err != nil { // the broker may be dead just now
		time.Sleep(10 * time.Millisecond)
		c, err = client.Dial(context.Background(), addr, o)
	}
	s := client.Queue(keyedQueue, keyedTopic)
	s.Workers, s.OrderByKey, s.MaxDeliveries, s.Lease = 4, true, 50, 2*time.Second
	s.BackoffMin, s.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	say := func(what string, m *client.Message) {
		fmt.Printf("%s %s %s %d\n", what, m.Key, m.Value, time.Now().UnixNano())
	}
	err = c.Run(context.Background(), s, func(_ context.Context, m *client.Message) error {
		say("begin", m)
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) // the work
		switch rand.IntN(100) {
		case 0:
			say("reject", m)
			return client.Reject(errors.New("one in a hundred"))
		case 1, 2, 3, 4, 5:
			return errors.New("one in twenty")
		}
		say("end", m)
		return nil
	})
	fmt.Println("error", err)
	os.Exit(1)
}

// said is one line of a worker.
type said struct {
	what, key string
	number    int // of the message among those of its key
	at        int64
}

// queueWorker is a worker's process and what it has said.
type queueWorker struct {
	cmd   *exec.Cmd
	done  sync.WaitGroup
	lines []said // valid after done
	err   error
}

func startWorker(t *testing.T, addr string) *queueWorker {
	t.Helper()
	w := &queueWorker{cmd: exec.Command(os.Args[0], "-test.run", "^$")}
	w.cmd.Env = append(os.Environ(), workerVar+"="+addr)
	out, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	w.cmd.Stderr = os.Stderr
	require.NoError(t, w.cmd.Start())
	w.done.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var s said
			if _, err := fmt.Sscanf(lines.Text(), "%s %s %d %d", &s.what, &s.key, &s.number, &s.at); err != nil {
				w.err = fmt.Errorf("a worker says %q", lines.Text())
				continue
			}
			w.lines = append(w.lines, s)
		}
	})
	return w
}

func (w *queueWorker) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, w.cmd.Process.Kill())
	w.done.Wait()
	_ = w.cmd.Wait() // says that it was killed
	require.NoError(t, w.err)
}

// sentLater is what is known of messages that were scheduled.
type sentLater struct {
	mu    sync.Mutex
	acked map[string]bool
}

// Brokers and workers are killed while a queue keeps the order of keys and messages are scheduled.
// Every message is done, a dead letter or waiting; none of a key begins before those in front of it are
// done; and what was scheduled is published exactly once.
func TestQueuesAndSchedulesLoseNothingWhenBrokersAndWorkersAreKilled(t *testing.T) {
	cycles, seed := number(t, cyclesVar, defaultCycles), number(t, seedVar, uint64(time.Now().UnixNano()))
	defer func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d and %d cycles", seedVar, seed, cycles)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 5))
	b := &broker{t: t, dir: t.TempDir()}
	addr := b.start()
	b.listen = addr // everybody finds the next one there
	defer func() { b.kill() }()
	c := dial(t, addr)
	defer hangUp(c)
	for _, topic := range []string{keyedTopic, timedTopic} {
		_, err := c.CreateTopic(t.Context(), topic, client.TopicOptions{Partitions: 2})
		require.NoError(t, err)
	}

	var all []*queueWorker
	defer func() {
		for _, w := range all {
			_ = w.cmd.Process.Kill()
		}
	}()
	workers := make([]*queueWorker, workerCount)
	for i := range workers {
		workers[i] = startWorker(t, addr)
		all = append(all, workers[i])
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	acked := map[said]bool{} // key and number
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			s := said{key: "k" + strconv.Itoa(n%keyCount), number: n / keyCount}
			_, err := c.Publish(ctx, &client.Message{Topic: keyedTopic, Key: []byte(s.key), Value: fmt.Append(nil, s.number)})
			if err == nil {
				acked[s] = true
			}
		}
	})
	timed := sentLater{acked: map[string]bool{}}
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			v := strconv.Itoa(n)
			_, err := c.Publish(ctx, &client.Message{Topic: timedTopic, Value: []byte(v), Delay: time.Duration(1+n%1500) * time.Millisecond})
			timed.mu.Lock()
			timed.acked[v] = err == nil
			timed.mu.Unlock()
		}
	})
	for range 3 * cycles {
		time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond) // the moment of the crash
		if rng.IntN(2) == 0 {
			b.kill()
			b.start()
			continue
		}
		i := rng.IntN(len(workers))
		workers[i].kill(t)
		workers[i] = startWorker(t, addr)
		all = append(all, workers[i])
	}
	stop()
	wg.Wait()
	require.Eventually(t, func() bool { return drained(t, c) }, waitLimit, 20*time.Millisecond, "everything is done")
	for _, w := range workers {
		w.kill(t)
	}
	var lines []said
	for _, w := range all {
		lines = append(lines, w.lines...)
	}
	checkKeys(t, lines, acked, deadNumbers(t, c))
	checkTimed(t, c, timed.acked)
}

// drained reports whether the queue has nothing left to do, and nothing is scheduled any more.
func drained(t *testing.T, c *client.Client) bool {
	infos, err := c.Groups(t.Context(), keyedQueue)
	if err != nil || len(infos) == 0 {
		return false
	}
	for _, g := range infos {
		if g.Lag > 0 || g.Dead > 0 {
			return false
		}
	}
	for range c.Schedules(t.Context(), timedTopic, client.AllPartitions) {
		return false // one waits, or whether one does is not known
	}
	return true
}

// deadNumbers returns what is in the dead-letter topic.
func deadNumbers(t *testing.T, c *client.Client) map[said]bool {
	dead := map[said]bool{}
	topic := keyedTopic + "." + keyedQueue + ".dlq"
	if _, err := c.Topic(t.Context(), topic); err != nil {
		return dead
	}
	for d, err := range c.DeadLetters(t.Context(), topic) {
		require.NoError(t, err)
		n, err := strconv.Atoi(string(d.Value))
		require.NoError(t, err)
		dead[said{key: string(d.Key), number: n}] = true
	}
	return dead
}

// checkKeys looks at what became of every message, and at the order of every key.
func checkKeys(t *testing.T, lines []said, acked, dead map[said]bool) {
	t.Helper()
	begun, ended := map[said]int64{}, map[said]int64{} // first, by key and number
	for _, s := range lines {
		at := said{key: s.key, number: s.number}
		first := begun
		if s.what != "begin" {
			first = ended
		}
		if before, ok := first[at]; !ok || s.at < before {
			first[at] = s.at
		}
	}
	require.NotEmpty(t, acked)
	for at := range acked {
		_, done := ended[at]
		require.True(t, done || dead[at], "message %d of %s was published and is neither done nor a dead letter", at.number, at.key)
	}
	numbers := map[string][]int{}
	for at := range begun {
		numbers[at.key] = append(numbers[at.key], at.number)
	}
	for key, list := range numbers {
		slices.Sort(list)
		for i := 1; i < len(list); i++ {
			before, at := said{key: key, number: list[i-1]}, said{key: key, number: list[i]}
			done, ok := ended[before]
			if !ok { // it used up its deliveries
				require.True(t, dead[before], "message %d of %s began, and nothing became of it", before.number, key)
				continue
			}
			require.Less(t, done, begun[at], "message %d of %s began before message %d was done", at.number, key, before.number)
		}
	}
}

// checkTimed reads what was published of the scheduled messages.
func checkTimed(t *testing.T, c *client.Client, acked map[string]bool) {
	t.Helper()
	seen := map[string]int{}
	info, err := c.Topic(t.Context(), timedTopic)
	require.NoError(t, err)
	for p, state := range info.Partitions {
		for next := state.First; next < state.Visible; {
			f, err := c.Fetch(t.Context(), client.FetchRequest{Topic: timedTopic, Partition: p, From: client.At(next)})
			require.NoError(t, err)
			for _, m := range f.Messages {
				seen[string(m.Value)]++
			}
			next = f.Next
		}
	}
	require.NotEmpty(t, seen)
	for v, known := range acked {
		if known {
			require.Equal(t, 1, seen[v], "scheduled message %s", v)
		}
		require.LessOrEqual(t, seen[v], 1, "scheduled message %s", v)
	}
}
