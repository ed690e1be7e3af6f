package crash

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

const (
	// dirVar makes the test binary a broker on that directory instead of a test.
	dirVar = "RAFKA_CRASH_DIR"
	// listenVar is the address of that broker.
	listenVar = "RAFKA_CRASH_LISTEN"
	// cyclesVar is the number of kills; make test-crash sets it.
	cyclesVar = "RAFKA_CRASH_CYCLES"
	// seedVar repeats a run's random choices.
	seedVar = "RAFKA_CRASH_SEED"

	defaultCycles = 3
	producers     = 8
	partitions    = 4

	topicsPerCycle = 4
	topicName      = "crash"
	groupName      = "audit"
	queueName      = "workers"
	waitLimit      = 60 * time.Second
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVar); dir != "" {
		runBroker(dir)
		return
	}
	if addr := os.Getenv(memberVar); addr != "" {
		runMember(addr)
		return
	}
	if addr := os.Getenv(workerVar); addr != "" {
		runQueueWorker(addr)
		return
	}
	os.Exit(m.Run())
}

// runBroker serves until it is killed.
func runBroker(dir string) {
	listen := cmp.Or(os.Getenv(listenVar), "127.0.0.1:0")
	srv, err := server.New(server.Options{Dir: dir, Listen: listen, MemoryBytes: 64 << 20})
	if err == nil {
		err = srv.Start()
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("listening", srv.Addr())
	select {}
}

// broker is the process that is killed again and again.
type broker struct {
	t      *testing.T
	dir    string
	listen string // a free port when empty
	cmd    *exec.Cmd
}

// start starts the process and returns the address it listens on.
func (b *broker) start() string {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0], "-test.run", "^$")
	b.cmd.Env = append(os.Environ(), dirVar+"="+b.dir, listenVar+"="+b.listen)
	out, err := b.cmd.StdoutPipe()
	require.NoError(b.t, err)
	b.cmd.Stderr = os.Stderr
	require.NoError(b.t, b.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b.t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	require.True(b.t, ok, line)
	return addr
}

// kill ends the process with SIGKILL, if there is one.
func (b *broker) kill() {
	b.t.Helper()
	if b.cmd == nil || b.cmd.ProcessState != nil {
		return
	}
	require.NoError(b.t, b.cmd.Process.Kill())
	_ = b.cmd.Wait() // says that it was killed
}

// place is where a record was acknowledged.
type place struct {
	partition int
	offset    uint64
}

// ledger is what the test knows must be true.
type ledger struct {
	mu        sync.Mutex
	sent      map[string]bool  // ids of records given to a client
	acked     map[string]place // and acknowledged at level disk
	committed map[int]uint64   // offsets whose commit was acknowledged
	settled   map[string]bool  // ids whose queue acknowledgement was answered
	maybe     map[string]bool  // ids whose queue acknowledgement was sent
	seen      map[place]string // what a subscriber was shown
	topics    map[string]bool  // topics whose creation was answered
	erased    erased
}

func newLedger() *ledger {
	return &ledger{
		sent: map[string]bool{}, acked: map[string]place{}, committed: map[int]uint64{},
		settled: map[string]bool{}, maybe: map[string]bool{}, seen: map[place]string{},
		topics: map[string]bool{},
	}
}

// value is a record that proves itself: its id, filler and a checksum of both.
func value(id string, rng *rand.Rand) []byte {
	filler := make([]byte, 1+rng.IntN(2000))
	for i := range filler {
		filler[i] = byte(rng.Uint32())
	}
	body := append([]byte(id+"|"), filler...)
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:8])), body...)
}

// idOf checks a value and returns its id.
func idOf(t *testing.T, v []byte) string {
	t.Helper()
	require.Greater(t, len(v), 16)
	sum := sha256.Sum256(v[16:])
	require.Equal(t, hex.EncodeToString(sum[:8]), string(v[:16]), "a record is damaged")
	id, _, ok := strings.Cut(string(v[16:]), "|")
	require.True(t, ok)
	return id
}

func TestAcknowledgedMeansThereAfterSIGKILL(t *testing.T) {
	b := &broker{t: t, dir: t.TempDir()}
	crashRun(t, b, number(t, cyclesVar, defaultCycles), b.kill)
}

// number returns a variable of the environment, or what it is when nobody set it.
func number(t *testing.T, name string, unset uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return unset
	}
	n, err := strconv.ParseUint(v, 10, 64)
	require.NoError(t, err)
	return n
}

// crashRun lets the broker crash again and again under load, and looks each time at what is there.
func crashRun(t *testing.T, b *broker, cycles uint64, crash func()) {
	t.Helper()
	seed := number(t, seedVar, uint64(time.Now().UnixNano()))
	defer func() {
		if t.Failed() {
			t.Logf("repeat with %s=%d and %d cycles", seedVar, seed, cycles)
		}
	}()
	defer b.kill()
	rng := rand.New(rand.NewPCG(seed, 1))
	l := newLedger()
	for cycle := range cycles {
		addr := b.start()
		if cycle == 0 {
			prepare(t, addr)
		}
		verify(t, addr, l)
		load(t, addr, l, cycle, rng, func() {
			time.Sleep(time.Duration(50+rng.IntN(400)) * time.Millisecond) // the moment of the crash
			crash()
		})
	}
	addr := b.start()
	verify(t, addr, l)
	drainQueue(t, addr, l)
	require.NotEmpty(t, l.acked)
	require.NotEmpty(t, l.committed)
	require.NotEmpty(t, l.settled)
	require.NotEmpty(t, l.topics)
	require.Positive(t, l.erased.life)
}

func dial(t *testing.T, addr string) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	c, err := client.Dial(ctx, addr, client.Options{Level: wire.LevelDisk})
	require.NoError(t, err)
	return c
}

// hangUp closes a client whose broker may be gone.
func hangUp(c *client.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ctx) // nothing more is expected of it
}

func prepare(t *testing.T, addr string) {
	t.Helper()
	c := dial(t, addr)
	defer hangUp(c)
	_, err := c.CreateTopic(t.Context(), topicName, client.TopicOptions{Partitions: partitions})
	require.NoError(t, err)
	q, err := c.OpenQueue(t.Context(), client.Queue(queueName, topicName))
	require.NoError(t, err)
	require.NoError(t, q.Close(t.Context()))
}

// load works against the broker until crash has killed it.
func load(t *testing.T, addr string, l *ledger, cycle uint64, rng *rand.Rand, crash func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	c := dial(t, addr)
	for p := range producers {
		local := rand.New(rand.NewPCG(rng.Uint64(), 2))
		wg.Go(func() { produce(ctx, c, l, fmt.Sprintf("%d.%d", cycle, p), local) })
	}
	wg.Go(func() { commit(ctx, c, l) })
	wg.Go(func() { work(ctx, t, c, l) })
	wg.Go(func() { watch(ctx, t, c, l) })
	wg.Go(func() { create(ctx, c, l, fmt.Sprintf("topic-%d", cycle)) })
	eraser := rand.New(rand.NewPCG(rng.Uint64(), 3))
	wg.Go(func() { erase(ctx, c, &l.erased, eraser) })
	crash()
	stop()
	wg.Wait()
	hangUp(c)
}

// produce publishes until ctx ends. What was not acknowledged may or may not be stored, once.
func produce(ctx context.Context, c *client.Client, l *ledger, prefix string, rng *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s.%d", prefix, n)
		m := &client.Message{Topic: topicName, Key: []byte(id), Value: value(id, rng)}
		l.mu.Lock()
		l.sent[id] = true
		l.mu.Unlock()
		r, err := c.Publish(ctx, m)
		if err != nil {
			continue
		}
		l.mu.Lock()
		l.acked[id] = place{r.Partition, r.Offset}
		l.mu.Unlock()
	}
}

// commit moves a group forward behind what was acknowledged.
func commit(ctx context.Context, c *client.Client, l *ledger) {
	for ctx.Err() == nil {
		offsets := map[int]uint64{}
		l.mu.Lock()
		for _, p := range l.acked {
			offsets[p.partition] = max(offsets[p.partition], p.offset+1)
		}
		l.mu.Unlock()
		if len(offsets) == 0 {
			continue
		}
		if err := c.Commit(ctx, groupName, topicName, offsets); err != nil {
			continue
		}
		l.mu.Lock()
		for p, o := range offsets {
			l.committed[p] = max(l.committed[p], o)
		}
		l.mu.Unlock()
	}
}

// create makes topics and publishes to each.
func create(ctx context.Context, c *client.Client, l *ledger, prefix string) {
	for n := 0; ctx.Err() == nil && n < topicsPerCycle; n++ {
		name := fmt.Sprintf("%s-%d", prefix, n)
		if _, err := c.CreateTopic(ctx, name, client.TopicOptions{Partitions: 1}); err != nil {
			return
		}
		l.mu.Lock()
		l.topics[name] = true
		l.mu.Unlock()
		_, _ = c.Publish(ctx, &client.Message{Topic: name, Value: []byte(name)}) // may be lost with the crash
	}
}

// work takes messages from the queue and acknowledges them.
func work(ctx context.Context, t *testing.T, c *client.Client, l *ledger) {
	q, err := c.OpenQueue(ctx, client.Queue(queueName, topicName))
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		ms, err := q.Fetch(ctx, 50)
		if err != nil {
			continue
		}
		var ids []string
		for _, m := range ms {
			id := idOf(t, m.Value)
			l.mu.Lock()
			again := l.settled[id]
			l.mu.Unlock()
			if again {
				t.Errorf("record %s was delivered after it was acknowledged", id)
			}
			l.mu.Lock()
			l.maybe[id] = true
			l.mu.Unlock()
			if m.Ack(ctx) == nil {
				ids = append(ids, id)
			}
		}
		lost := q.Lost()
		if q.Flush(ctx) != nil || q.Lost() != lost {
			continue
		}
		l.mu.Lock()
		for _, id := range ids {
			l.settled[id] = true
		}
		l.mu.Unlock()
	}
}

// watch subscribes and notes what it is shown.
func watch(ctx context.Context, t *testing.T, c *client.Client, l *ledger) {
	k, err := c.Subscribe(ctx, client.Subscription{Topic: topicName})
	if err != nil {
		return
	}
	defer k.Close()
	for m, err := range k.Messages(ctx) {
		if err != nil {
			return
		}
		id, at := idOf(t, m.Value), place{m.Partition, m.Offset}
		l.mu.Lock()
		if before, ok := l.seen[at]; ok && before != id {
			t.Errorf("offset %v showed %s and then %s", at, before, id)
		}
		l.seen[at] = id
		l.mu.Unlock()
	}
}

// verify reads everything and compares it with the ledger.
func verify(t *testing.T, addr string, l *ledger) {
	t.Helper()
	c := dial(t, addr)
	defer hangUp(c)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	stored := map[string]place{}
	for p := range partitions {
		for next := uint64(0); ; {
			f, err := c.Fetch(ctx, client.FetchRequest{Topic: topicName, Partition: p, From: client.At(next), MaxBytes: 4 << 20})
			require.NoError(t, err)
			if len(f.Messages) == 0 {
				require.Equal(t, f.Visible, next, "records are missing at the end")
				break
			}
			for _, m := range f.Messages {
				require.Equal(t, next, m.Offset, "offsets have a gap")
				id := idOf(t, m.Value)
				require.True(t, l.sent[id], "record %s was never sent", id)
				_, twice := stored[id] // require.NotContains looks at every key
				require.False(t, twice, "record %s is stored twice", id)
				stored[id] = place{p, m.Offset}
				next++
			}
		}
	}
	for id, at := range l.acked {
		require.Equal(t, at, stored[id], "acknowledged record %s", id)
	}
	for at, id := range l.seen {
		require.Equal(t, at, stored[id], "record %s was shown", id)
	}
	infos, err := c.Topics(ctx)
	require.NoError(t, err)
	topics := map[string]bool{}
	for _, info := range infos {
		topics[info.Topic] = true
	}
	for name := range l.topics {
		require.True(t, topics[name], "topic %s is gone", name)
	}
	if len(l.committed) > 0 {
		got, err := c.Committed(ctx, groupName, topicName)
		require.NoError(t, err)
		for p, o := range l.committed {
			require.GreaterOrEqual(t, got[p], o, "commit of partition %d", p)
		}
	}
	l.erased.verify(ctx, t, c)
}

// drainQueue takes what is left in the queue: every stored record that was not settled, and none
// that was.
func drainQueue(t *testing.T, addr string, l *ledger) {
	t.Helper()
	c := dial(t, addr)
	defer hangUp(c)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	q, err := c.OpenQueue(ctx, client.Queue(queueName, topicName))
	require.NoError(t, err)
	for {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		ms, err := q.Fetch(short, 1000)
		cancel()
		if err != nil {
			break // nothing more is due
		}
		for _, m := range ms {
			id := idOf(t, m.Value)
			require.False(t, l.settled[id], "record %s was delivered after it was acknowledged", id)
			l.settled[id] = true
			require.NoError(t, m.Ack(ctx))
		}
		require.NoError(t, q.Flush(ctx))
	}
	for id := range l.acked {
		require.True(t, l.settled[id] || l.maybe[id], "the queue lost record %s", id)
	}
}
