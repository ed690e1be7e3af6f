package crash

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

// memberVar makes the test binary a member of a group at that broker instead of a test.
const memberVar = "RAFKA_CRASH_MEMBER"

const (
	sharedGroup = "shared"
	sharedTopic = "shared"
	memberCount = 3
)

// runMember handles messages until it is killed. A message is handled when its line is in the pipe.
func runMember(addr string) {
	c, err := client.Dial(context.Background(), addr, client.Options{ReconnectMax: 50 * time.Millisecond})
	for err != nil { // the broker may be dead just now
		time.Sleep(10 * time.Millisecond)
		c, err = client.Dial(context.Background(), addr, client.Options{ReconnectMax: 50 * time.Millisecond})
	}
	s := client.Group(sharedGroup, sharedTopic)
	s.SessionTimeout, s.CommitInterval, s.Workers = time.Second, 5*time.Millisecond, 2
	err = c.Run(context.Background(), s, func(_ context.Context, m *client.Message) error {
		_, err := fmt.Printf("%d %d\n", m.Partition, m.Offset)
		return err
	})
	fmt.Println("error", err)
	os.Exit(1)
}

// groupMember is a member's process and what it has handled, in order.
type groupMember struct {
	cmd   *exec.Cmd
	done  sync.WaitGroup
	lines []place // valid after done
	err   error
}

func startMember(t *testing.T, addr string) *groupMember {
	t.Helper()
	m := &groupMember{cmd: exec.Command(os.Args[0], "-test.run", "^$")}
	m.cmd.Env = append(os.Environ(), memberVar+"="+addr)
	out, err := m.cmd.StdoutPipe()
	require.NoError(t, err)
	m.cmd.Stderr = os.Stderr
	require.NoError(t, m.cmd.Start())
	m.done.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var p place
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &p.partition, &p.offset); err != nil {
				m.err = fmt.Errorf("a member says %q", lines.Text())
				continue
			}
			m.lines = append(m.lines, p)
		}
	})
	return m
}

// kill ends the process with SIGKILL and waits for what it wrote.
func (m *groupMember) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, m.cmd.Process.Kill())
	m.done.Wait()
	_ = m.cmd.Wait() // says that it was killed
	require.NoError(t, m.err)
}

// Brokers and members are killed while a group consumes. Nothing may be passed over, and what one
// member handles of a partition comes in order.
func TestAGroupPassesNothingOverWhenBrokersAndMembersAreKilled(t *testing.T) {
	cycles, seed := number(t, cyclesVar, defaultCycles), number(t, seedVar, uint64(time.Now().UnixNano()))
	defer func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d and %d cycles", seedVar, seed, cycles)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 4))
	b := &broker{t: t, dir: t.TempDir()}
	addr := b.start()
	b.listen = addr // members find the next one there
	defer func() { b.kill() }()
	c := dial(t, addr)
	defer hangUp(c)
	_, err := c.CreateTopic(t.Context(), sharedTopic, client.TopicOptions{Partitions: partitions})
	require.NoError(t, err)

	var all []*groupMember
	defer func() {
		for _, m := range all {
			_ = m.cmd.Process.Kill()
		}
	}()
	members := make([]*groupMember, memberCount)
	for i := range members {
		members[i] = startMember(t, addr)
		all = append(all, members[i])
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			m := &client.Message{Topic: sharedTopic, Partition: n % partitions, Pinned: true, Value: []byte("x")}
			_, _ = c.Publish(ctx, m) // what is stored counts, whether that is known or not
		}
	})
	for range 3 * cycles {
		time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond) // the moment of the crash
		if rng.IntN(3) == 0 {
			b.kill()
			b.start()
			continue
		}
		i := rng.IntN(len(members))
		members[i].kill(t)
		members[i] = startMember(t, addr)
		all = append(all, members[i])
	}
	stop()
	wg.Wait()

	ends := map[int]uint64{}
	require.Eventually(t, func() bool {
		info, err := c.Topic(t.Context(), sharedTopic) // a publish may still be on its way
		committed, err2 := c.Committed(t.Context(), sharedGroup, sharedTopic)
		if err != nil || err2 != nil {
			return false
		}
		for p := range info.Partitions {
			if ends[p] = info.Partitions[p].Visible; committed[p] != ends[p] {
				return false
			}
		}
		return true
	}, waitLimit, 10*time.Millisecond, "everything is handled and committed")
	for _, m := range members {
		m.kill(t)
	}
	by := map[place]int{} // how many members handled it
	for _, m := range all {
		mine := map[place]bool{}
		for _, at := range m.lines {
			mine[at] = true
		}
		for at := range mine {
			by[at]++
		}
	}
	for p, end := range ends {
		require.Positive(t, end)
		for o := range end {
			require.Positive(t, by[place{p, o}], "partition %d: offset %d of %d was committed and never handled", p, o, end)
		}
	}
	for i, m := range all {
		checkOrder(t, i, m.lines, by)
	}
}

// checkOrder looks at what one member handled, in order. Offsets of a partition follow each other. It
// may go back, when something was not committed, and forward, when others have handled what lies
// between.
func checkOrder(t *testing.T, member int, lines []place, by map[place]int) {
	t.Helper()
	next := map[int]uint64{}
	mine := map[place]bool{}
	for _, at := range lines {
		want, seen := next[at.partition]
		for o := want; seen && o < at.offset; o++ {
			between := place{at.partition, o}
			require.True(t, mine[between] || by[between] > 0, "member %d went from %d to %d of partition %d; nobody handled %d",
				member, want, at.offset, at.partition, o)
		}
		mine[at] = true
		next[at.partition] = at.offset + 1
	}
}
