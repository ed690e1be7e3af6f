package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// The model of delivery: clients publish, schedule, subscribe, and consume as groups and queues, while their
// connections are cut at any byte or fall silent and the broker restarts. Then all of that ends, and what
// everybody saw is compared with what the topic holds.

// flaky is a network between clients and a broker. While it is wild, every connection breaks after a random
// number of bytes in either direction, by being cut or by falling silent.
type flaky struct {
	net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	to    string     // "" for a broker that does not answer
	rng   *rand.Rand
	wild  bool
	lines map[net.Conn]struct{}
}

func newFlaky(t *testing.T, to string, rng *rand.Rand) *flaky {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &flaky{Listener: ln, to: to, rng: rng, wild: true, lines: map[net.Conn]struct{}{}}
	f.wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.connect(near) })
		}
	})
	return f
}

// end closes everything.
func (f *flaky) end() {
	_ = f.Close()
	f.cut()
	f.wg.Wait()
}

// cut ends all connections.
func (f *flaky) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for nc := range f.lines {
		_ = nc.Close()
	}
}

// lead ends all connections; those that come now go to another broker.
func (f *flaky) lead(to string) {
	f.mu.Lock()
	f.to = to
	f.mu.Unlock()
	f.cut()
}

// calm ends all connections; those that come now hold.
func (f *flaky) calm() {
	f.mu.Lock()
	f.wild = false
	f.mu.Unlock()
	f.cut()
}

// fate returns after how many bytes a direction breaks, and how; a negative number means never.
func (f *flaky) fate() (after int, silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.wild || f.rng.IntN(3) == 0 {
		return -1, false
	}
	return f.rng.IntN(1 << (6 + f.rng.IntN(11))), f.rng.IntN(8) == 0
}

func (f *flaky) connect(near net.Conn) {
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		_ = near.Close()
		return
	}
	f.mu.Lock()
	f.lines[near], f.lines[far] = struct{}{}, struct{}{}
	led := f.to != to
	f.mu.Unlock()
	if led {
		_, _ = near.Close(), far.Close()
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.carry(near, far) })
	wg.Go(func() { f.carry(far, near) })
	wg.Wait()
	f.mu.Lock()
	delete(f.lines, near)
	delete(f.lines, far)
	f.mu.Unlock()
}

// carry copies from one side to the other until the direction breaks.
func (f *flaky) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	after, silent := f.fate()
	if after < 0 {
		_, _ = io.Copy(to, from)
		return
	}
	_, _ = io.CopyN(to, from, int64(after))
	if silent {
		_, _ = io.Copy(io.Discard, from)
	}
}

// spot is where a message is stored.
type spot struct {
	partition int
	offset    uint64
}

// saga is one run of the model.
type saga struct {
	t     *testing.T
	b     *servertest.Broker
	net   *flaky
	rough context.Context // ends when the trouble ends
	calm  context.Context // ends when everything that was stored must have arrived

	mu        sync.Mutex // guards the fields below
	rng       *rand.Rand
	acked     map[string]spot
	refused   map[string]error
	due       map[string]time.Time
	seen      map[string]time.Time // when the subscriber got it
	streamed  map[int]uint64       // how much the subscriber got, by partition
	next      map[int]uint64       // of the group: all before was handled
	committed map[int]uint64
	done      map[spot]bool // a worker of the queue has handled it
	settled   map[spot]bool // and its acknowledgement was answered
	events    []event       // of the ordered queue
}

// event is the beginning or the success of a handler of the ordered queue.
type event struct {
	key     string
	at      spot
	success bool
}

func (s *saga) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

// failf reports what must not happen.
func (s *saga) failf(format string, args ...any) { s.t.Errorf(format, args...) }

// dial returns a client, or nil when all is over.
func (s *saga) dial() *client.Client {
	o := client.Options{
		ReconnectMin: time.Millisecond, ReconnectMax: 10 * time.Millisecond, PingInterval: 150 * time.Millisecond,
		RequestTimeout: 20 * time.Second, MaxBatchBytes: 1 << (8 + s.roll(10)),
	}
	for {
		c, err := client.Dial(s.calm, s.net.Addr().String(), o)
		if err == nil {
			return c
		}
		if s.calm.Err() != nil {
			return nil
		}
	}
}

// close closes a client, which must take no longer than its context and a moment.
func (s *saga) close(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		s.failf("close: %v", err)
	}
}

const (
	sagaTopic = "saga"
	sagaKeys  = 7
)

// publish is one producer.
func (s *saga) publish(name string, scheduled bool) {
	c := s.dial()
	defer s.close(c)
	for i := 0; s.rough.Err() == nil; i++ {
		m := &client.Message{
			Topic: sagaTopic, Key: []byte(strconv.Itoa(s.roll(sagaKeys))), Value: fmt.Appendf(nil, "%s %d", name, i),
		}
		if s.roll(10) == 0 {
			m.Value = append(append(m.Value, ' '), make([]byte, s.roll(20_000))...)
		}
		value := string(m.Value)
		if scheduled {
			m.Delay = time.Duration(s.roll(300)) * time.Millisecond
			s.mu.Lock()
			s.due[value] = time.Now().Add(m.Delay)
			s.mu.Unlock()
		}
		ctx, cancel := context.WithTimeout(s.calm, 15*time.Second)
		if s.roll(10) == 0 {
			cancel()
			ctx, cancel = context.WithTimeout(s.calm, time.Duration(s.roll(5000))*time.Microsecond)
		}
		outcome := func(r client.Receipt, err error) { s.outcome(value, scheduled, r, err) }
		if s.roll(3) == 0 {
			outcome(c.Publish(ctx, m))
		} else if err := c.PublishAsync(ctx, m, outcome); err != nil {
			outcome(client.Receipt{}, err)
		}
		cancel()
		if s.roll(20) == 0 {
			time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
		}
	}
}

func (s *saga) outcome(value string, scheduled bool, r client.Receipt, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, client.ErrUnknownOutcome):
	case err != nil:
		s.refused[value] = err
	case scheduled:
		s.acked[value] = spot{r.Partition, 1 << 63}
	default:
		s.acked[value] = spot{r.Partition, r.Offset}
	}
}

// subscribe reads the topic from the start.
func (s *saga) subscribe(partitions int) {
	c := s.dial()
	defer s.close(c)
	parts := make([]int, partitions)
	for i := range parts {
		parts[i] = i
	}
	k, err := c.Subscribe(s.calm, client.Subscription{
		Topic: sagaTopic, Partitions: parts, CreditBytes: 1 << (10 + s.roll(12)),
	})
	if err != nil {
		s.failf("subscribe: %v", err)
		return
	}
	defer k.Close()
	for {
		m, err := k.Next(s.calm)
		if s.calm.Err() != nil {
			return
		}
		if err != nil {
			s.failf("next: %v", err)
			return
		}
		s.mu.Lock()
		if want := s.streamed[m.Partition]; m.Offset != want {
			s.failf("the subscriber got offset %d of partition %d instead of %d", m.Offset, m.Partition, want)
		}
		s.streamed[m.Partition]++
		s.seen[string(m.Value)] = time.Now()
		s.mu.Unlock()
	}
}

// runs runs consumers one after the other, each for a while; the last one until all is calm.
func (s *saga) runs(source func() client.Source, h client.Handler) {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.calm, time.Duration(20+s.roll(400))*time.Millisecond)
		if s.rough.Err() != nil {
			ctx, cancel = context.WithCancel(s.calm)
		}
		err := c.Run(ctx, source(), h)
		if ctx.Err() == nil {
			s.failf("run ended: %v", err)
		}
		cancel()
		s.close(c)
	}
}

// member is a member of the group.
func (s *saga) member() {
	s.runs(func() client.Source {
		g := client.Group("g", sagaTopic)
		g.Workers, g.CommitInterval = 1+s.roll(3), time.Duration(1+s.roll(100))*time.Millisecond
		g.BackoffMin, g.BackoffMax = time.Millisecond, 2*time.Millisecond
		g.CreditBytes = 1 << (10 + s.roll(12))
		return g
	}, func(_ context.Context, m *client.Message) error {
		s.mu.Lock()
		next := s.next[m.Partition]
		s.mu.Unlock()
		if m.Offset > next {
			s.failf("the group got offset %d of partition %d, and %d was not handled", m.Offset, m.Partition, next)
		}
		if s.roll(20) == 0 {
			return errors.New("not now")
		}
		s.mu.Lock()
		s.next[m.Partition] = max(s.next[m.Partition], m.Offset+1)
		s.mu.Unlock()
		return nil
	})
}

// watch looks at what the group has committed.
func (s *saga) watch() {
	c := s.dial()
	defer s.close(c)
	for s.calm.Err() == nil {
		got, err := c.Committed(s.calm, "g", sagaTopic)
		if err != nil && s.calm.Err() == nil {
			s.failf("committed: %v", err)
		}
		s.mu.Lock()
		for p, offset := range got {
			if offset < s.committed[p] {
				s.failf("the commit of partition %d went from %d to %d", p, s.committed[p], offset)
			}
			if offset > s.next[p] {
				s.failf("%d of partition %d is committed, and %d was not handled", offset, p, s.next[p])
			}
			s.committed[p] = offset
		}
		s.mu.Unlock()
		time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
	}
}

func queueSource(name string) client.Source {
	q := client.Queue(name, sagaTopic)
	q.BackoffMin, q.BackoffMax, q.MaxDeliveries = time.Millisecond, 3*time.Millisecond, 1000
	return q
}

// begin notes that a message of the queue was delivered.
func (s *saga) begin(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := (spot{m.Partition, m.Offset}); s.settled[at] {
		s.failf("%v was delivered again after its acknowledgement was answered", at)
	}
}

func (s *saga) worked(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[spot{m.Partition, m.Offset}] = true
}

// worker handles messages of the queue.
func (s *saga) worker() {
	s.runs(func() client.Source {
		q := queueSource("q")
		q.Workers = 1 + s.roll(5)
		return q
	}, func(ctx context.Context, m *client.Message) error {
		s.begin(m)
		switch s.roll(30) {
		case 0:
			return errors.New("not now")
		case 1:
			return client.RetryAfter(time.Millisecond, errors.New("later"))
		case 2:
			return client.Reject(errors.New("never"))
		case 3:
			if m.Extend(ctx) == nil && s.roll(2) == 0 && m.Ack(ctx) == nil {
				s.worked(m)
				return errors.New("settled already")
			}
		}
		s.worked(m)
		return nil
	})
}

// puller settles messages of the queue by hand.
func (s *saga) puller() {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		q, err := c.OpenQueue(s.calm, queueSource("q"))
		if err != nil {
			if s.calm.Err() == nil {
				s.failf("open: %v", err)
			}
			s.close(c)
			continue
		}
		for range 1 + s.roll(20) {
			s.pull(q)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := q.Close(ctx); err != nil && !errors.Is(err, wire.CodeLeaseLost) {
			s.failf("close of a queue: %v", err)
		}
		cancel()
		s.close(c)
	}
}

// pull fetches, settles and flushes once.
func (s *saga) pull(q *client.QueueConsumer) {
	ctx, cancel := context.WithTimeout(s.calm, 50*time.Millisecond)
	defer cancel()
	ms, err := q.Fetch(ctx, 1+s.roll(50))
	if err != nil && ctx.Err() == nil {
		s.failf("fetch: %v", err)
	}
	var acked []spot
	for _, m := range ms {
		s.begin(m)
		switch s.roll(10) {
		case 0:
			_ = m.Nack(s.calm, time.Duration(s.roll(3)-1)*time.Millisecond)
		default:
			s.worked(m)
			if m.Ack(ctx) == nil {
				acked = append(acked, spot{m.Partition, m.Offset})
			}
		}
	}
	if err := q.Flush(s.calm); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range acked {
		s.settled[at] = true
	}
}

// sorter handles messages of the ordered queue.
func (s *saga) sorter() {
	s.runs(func() client.Source {
		q := queueSource("sorted")
		q.Workers, q.OrderByKey = 1+s.roll(5), true
		return q
	}, func(_ context.Context, m *client.Message) error {
		at, key := spot{m.Partition, m.Offset}, string(m.Key)
		s.mu.Lock()
		s.events = append(s.events, event{key, at, false})
		s.mu.Unlock()
		if s.roll(20) == 0 {
			return errors.New("not now")
		}
		s.mu.Lock()
		s.events = append(s.events, event{key, at, true})
		s.mu.Unlock()
		return nil
	})
}

// trouble breaks connections and restarts the broker.
func (s *saga) trouble(restarts bool) {
	for s.rough.Err() == nil {
		time.Sleep(time.Duration(s.roll(40)) * time.Millisecond)
		switch s.roll(12) {
		case 0, 1, 2:
			s.net.cut()
		case 3:
			s.b.DropConnections()
		case 4:
			if restarts {
				s.b.Restart()
			}
		}
	}
}

func (s *saga) read(c *client.Client, topic string, p int) func(yield func(*client.Message) bool) {
	return func(yield func(*client.Message) bool) {
		for from := client.Start(); ; {
			f, err := c.Fetch(s.calm, client.FetchRequest{Topic: topic, Partition: p, From: from})
			if err != nil {
				s.failf("read: %v", err)
				return
			}
			for i := range f.Messages {
				if !yield(&f.Messages[i]) {
					return
				}
			}
			if f.Next >= f.Visible {
				return
			}
			from = client.At(f.Next)
		}
	}
}

// inOrder checks that the messages of a producer are in order in each partition.
func (s *saga) inOrder(last map[string]int, value string, at spot) {
	name, number, _ := strings.Cut(value, " ")
	number, _, _ = strings.Cut(number, " ")
	n, _ := strconv.Atoi(number)
	who := fmt.Sprint(name, "/", at.partition)
	if was, ok := last[who]; ok && was >= n && !strings.HasPrefix(name, "later") {
		s.failf("%s %d is stored behind %d", who, n, was)
	}
	last[who] = n
}

// leaked returns the stacks of goroutines of clients.
func leaked() string {
	buf := make([]byte, 8<<20)
	var found []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "rafka/client.(") {
			found = append(found, g)
		}
	}
	return strings.Join(found, "\n\n")
}

// Whatever happens to connections and to the broker: what was acknowledged is stored once and reaches everybody, in
// order where that is promised; what a consumer has acknowledged is not delivered again; commits do not go back; every
// call ends; and nothing is left of a client that was closed.
func TestModelOfDelivery(t *testing.T) {
	seeds.Each(t, 2, func(t *testing.T, seed uint64) { runSaga(t, seed) })
}

func runSaga(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	partitions := 1 + rng.IntN(4)
	b := servertest.Start(t, servertest.Options{
		Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir(), Loops: 1 + rng.IntN(3)},
	})
	s := &saga{
		t: t, b: b, net: newFlaky(t, b.Addr, rand.New(rand.NewPCG(seed, 2))), rng: rng,
		acked: map[string]spot{}, refused: map[string]error{}, due: map[string]time.Time{}, seen: map[string]time.Time{},
		streamed: map[int]uint64{}, next: map[int]uint64{}, committed: map[int]uint64{},
		done: map[spot]bool{}, settled: map[spot]bool{},
	}
	defer s.net.end()
	s.create(partitions, []string{"memory", "os", "disk"}[rng.IntN(3)])
	var endRough, endCalm context.CancelFunc
	s.calm, endCalm = context.WithTimeout(context.Background(), time.Minute)
	defer endCalm()
	s.rough, endRough = context.WithTimeout(s.calm, 700*time.Millisecond)
	defer endRough()
	var producers, consumers sync.WaitGroup
	for _, name := range []string{"one", "two", "later"} {
		producers.Go(func() { s.publish(name, name == "later") })
	}
	for range 2 {
		consumers.Go(s.member)
		consumers.Go(s.worker)
		consumers.Go(s.sorter)
	}
	consumers.Go(s.puller)
	consumers.Go(s.watch)
	consumers.Go(func() { s.subscribe(partitions) })
	s.trouble(seed%2 == 0)
	s.net.calm()
	producers.Wait()
	s.settle(partitions)
	endCalm()
	consumers.Wait()
	require.Eventually(t, func() bool { return leaked() == "" }, 10*time.Second, 5*time.Millisecond, "%s", leaked())
}

// create creates the topic, past the network.
func (s *saga) create(partitions int, level string) {
	c, err := client.Dial(within(s.t), s.b.Addr, client.Options{})
	require.NoError(s.t, err)
	_, err = c.CreateTopic(within(s.t), sagaTopic, client.TopicOptions{
		Partitions: partitions, Settings: []wire.Setting{{Key: "durability", Value: level}},
	})
	require.NoError(s.t, err)
	require.NoError(s.t, c.Close(within(s.t)))
}

// contents returns the messages that a topic holds.
func (s *saga) contents(c *client.Client, topic string, partitions int) (all []*client.Message) {
	for p := range partitions {
		for m := range s.read(c, topic, p) {
			all = append(all, m)
		}
	}
	return all
}

// settle waits until everything has arrived, and then verifies it.
func (s *saga) settle(partitions int) {
	c := s.dial()
	defer s.close(c)
	var missing string
	for deadline := time.Now().Add(30 * time.Second); ; {
		if missing = s.missing(c, partitions); missing == "" {
			break
		}
		if time.Now().After(deadline) {
			s.failf("%s", missing)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.check(s.contents(c, sagaTopic, partitions))
}

// missing says what has not arrived, or "".
func (s *saga) missing(c *client.Client, partitions int) string {
	dead := map[spot]bool{}
	if info, err := c.Topic(s.calm, sagaTopic+".q.dlq"); err == nil {
		for _, d := range s.contents(c, sagaTopic+".q.dlq", len(info.Partitions)) {
			offset, _ := strconv.ParseUint(string(d.Header("rafka-dead-offset")), 10, 64)
			partition, _ := strconv.Atoi(string(d.Header("rafka-dead-partition")))
			dead[spot{partition, offset}] = true
		}
	}
	all := s.contents(c, sagaTopic, partitions)
	s.mu.Lock()
	defer s.mu.Unlock()
	have := map[string]bool{}
	sorted := map[spot]bool{}
	for _, e := range s.events {
		if e.success {
			sorted[e.at] = true
		}
	}
	for _, m := range all {
		value, at := string(m.Value), spot{m.Partition, m.Offset}
		have[value] = true
		switch {
		case s.seen[value].IsZero():
			return fmt.Sprintf("the subscriber did not get %v", at)
		case s.next[at.partition] <= at.offset:
			return fmt.Sprintf("the group did not handle %v", at)
		case s.committed[at.partition] <= at.offset:
			return fmt.Sprintf("the group did not commit %v", at)
		case !s.done[at] && !dead[at]:
			return fmt.Sprintf("the queue did not handle %v", at)
		case !sorted[at]:
			return fmt.Sprintf("the ordered queue did not handle %v", at)
		}
	}
	for value, at := range s.acked {
		if !have[value] {
			return fmt.Sprintf("%.30q is not stored at %v", value, at)
		}
	}
	return ""
}

// check verifies what was seen against what the topic holds.
func (s *saga) check(all []*client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, last, keys := map[string]spot{}, map[string]int{}, map[string][]spot{}
	for _, m := range all {
		value, at := string(m.Value), spot{m.Partition, m.Offset}
		if was, twice := stored[value]; twice {
			s.failf("%.30q is stored twice: at %v and %v", value, was, at)
		}
		stored[value] = at
		s.inOrder(last, value, at)
		keys[string(m.Key)] = append(keys[string(m.Key)], at)
		if due, ok := s.due[value]; ok && s.seen[value].Before(due.Add(-time.Millisecond)) {
			s.failf("%.30q arrived %v early", value, due.Sub(s.seen[value]))
		}
		if err := s.refused[value]; err != nil {
			s.failf("%.30q is stored, although its publish failed: %v", value, err)
		}
		if was, ok := s.acked[value]; ok && was.offset != 1<<63 && was != at {
			s.failf("%.30q was acknowledged at %v and is stored at %v", value, was, at)
		}
	}
	s.checkKeys(keys)
}

// checkKeys verifies that the ordered queue began no message before the earlier ones of its key were handled.
func (s *saga) checkKeys(keys map[string][]spot) {
	handled := map[spot]bool{}
	for _, e := range s.events {
		if e.success {
			handled[e.at] = true
			continue
		}
		before := keys[e.key]
		for _, at := range before[:slices.Index(before, e.at)] {
			if at.partition == e.at.partition && !handled[at] {
				s.failf("%v of key %s was delivered before %v was handled", e.at, e.key, at)
			}
		}
	}
}
