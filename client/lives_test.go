package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

// The model of lives: what the model of delivery does, while the topic grows, is purged, deleted and created again, the
// dead-letter topic changes, the broker is killed, and handlers take longer than their leases and sessions.

// copyOf is one message as it is stored at one place. A message that is sent again, because its outcome was unknown,
// can be stored in two lives of the topic.
type copyOf struct {
	spot
	value string
}

func copyFrom(m *client.Message) copyOf { return copyOf{spot{m.Partition, m.Offset}, string(m.Value)} }

// lives is one run of the model. It uses the network and the producers' notes of a saga.
type lives struct {
	*saga
	rng2  *rand.Rand // of power cuts
	disk  *faultfs.Disk
	stops sync.WaitGroup // of brokers that were killed
	srv   *server.Server
	level string // of the topic

	// phase is even while the topic has one life, and odd from the beginning of a deletion to its answer. A value
	// names the phase in which its publish began.
	phase atomic.Int64

	// Guarded by saga.mu.
	at      map[string]int64  // phase in which a publish began and was acknowledged, when that is one and even
	grouped map[copyOf]bool   // handled by the group
	queued  map[copyOf]bool   // handled by the queue, or rejected
	ended   map[copyOf]int64  // phase in which its acknowledgement was answered, when that is one and even
	begun   []lifeEvent       // of the ordered queue
	passed  map[int64]passing // what the group has handled, by life
	purged  map[int]uint64    // of the current life: messages below may be gone
	pending int               // publishes whose outcome was not reported
	started map[string]int    // how often the outcome was reported
}

type lifeEvent struct {
	key     string
	of      copyOf
	success bool
}

// passing is which offsets of each partition are handled in one life.
type passing map[int]map[uint64]bool

// life returns the life of the topic at a phase, if that is certain for a message that was published since born.
func life(born, now int64) (n int64, certain bool) {
	n = (now + 1) / 2
	return n, born/2 == n
}

func bornIn(value string) int64 {
	f := strings.Fields(value)
	n, _ := strconv.ParseInt(f[2], 10, 64)
	return n
}

// gone reports whether an error is that of a topic which is deleted or not there.
func gone(err error) bool {
	return errors.Is(err, wire.CodeTopicDeleted) || errors.Is(err, wire.CodeTopicNotFound)
}

// purged reports whether an error is that of a position which a purge removed.
func purged(err error) bool { return errors.Is(err, wire.CodeOffsetOutOfRange) }

// prompt watches that a call returns soon after its context has ended.
func (s *lives) prompt(ctx context.Context, what string) (returned func()) {
	done := make(chan struct{})
	context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			s.failf("%s goes on without its context", what)
		}
	})
	return func() { close(done) }
}

// producer publishes, and closes its client now and then.
func (s *lives) producer(name string, scheduled bool) {
	for n := 0; s.rough.Err() == nil; {
		c := s.dial()
		if c == nil {
			return
		}
		for range 1 + s.roll(300) {
			if s.rough.Err() != nil {
				break
			}
			s.publishOne(c, name, n, scheduled)
			n++
		}
		s.leave(c)
	}
}

// leave closes a client, sometimes without waiting for what it has to do.
func (s *lives) leave(c *client.Client) {
	if s.roll(3) > 0 {
		s.close(c)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.roll(3000))*time.Microsecond)
	defer cancel()
	_ = c.Close(ctx)
}

func (s *lives) publishOne(c *client.Client, name string, n int, scheduled bool) {
	born := s.phase.Load()
	m := &client.Message{Topic: sagaTopic, Key: []byte(strconv.Itoa(s.roll(sagaKeys)))}
	m.Value = fmt.Appendf(nil, "%s %d %d", name, n, born)
	value := string(m.Value)
	s.mu.Lock()
	s.pending++
	if scheduled {
		m.Delay = time.Duration(s.rng.IntN(200)) * time.Millisecond
		s.due[value] = time.Now().Add(m.Delay)
	}
	s.mu.Unlock()
	outcome := func(r client.Receipt, err error) { s.published(value, born, scheduled, r, err) }
	ctx, cancel := context.WithTimeout(s.calm, time.Duration(1+s.roll(15_000))*time.Millisecond)
	defer cancel()
	defer s.prompt(ctx, "a publish")()
	if s.roll(3) == 0 {
		outcome(c.Publish(ctx, m))
	} else if err := c.PublishAsync(ctx, m, outcome); err != nil {
		outcome(client.Receipt{}, err)
	}
	if s.roll(10) == 0 {
		time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
	}
}

// published notes the outcome of a publish.
func (s *lives) published(value string, born int64, scheduled bool, r client.Receipt, err error) {
	s.outcome(value, scheduled, r, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending--
	if s.started[value]++; s.started[value] > 1 {
		s.failf("the outcome of %q was reported twice", value)
	}
	if now := s.phase.Load(); err == nil && born == now && born%2 == 0 {
		s.at[value] = born
	}
}

// consume runs consumers one after the other, each for a while; the last ones until all is calm.
func (s *lives) consume(source func() client.Source, h client.Handler) {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.calm, time.Duration(20+s.roll(600))*time.Millisecond)
		if s.rough.Err() != nil {
			ctx, cancel = context.WithCancel(s.calm)
		}
		if s.roll(3) == 0 { // it is closed meanwhile
			time.AfterFunc(time.Duration(s.roll(100))*time.Millisecond, func() {
				if s.rough.Err() == nil {
					s.leave(c)
				}
			})
		}
		returned := s.prompt(ctx, "a run")
		err := c.Run(ctx, source(), h)
		returned()
		closed := errors.Is(err, client.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
		if ctx.Err() == nil && !gone(err) && !closed {
			s.failf("run ended: %v", err)
		}
		cancel()
		s.leave(c)
	}
}

// hang makes a handler take longer than its lease and the time of a hand-over, now and then. It may ignore its context.
func (s *lives) hang(ctx context.Context) {
	if s.rough.Err() != nil || s.roll(100) > 0 {
		return
	}
	if s.roll(2) == 0 {
		ctx = s.rough
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(s.roll(400)) * time.Millisecond):
	}
}

func (s *lives) groupMember() {
	s.consume(func() client.Source {
		g := client.Group("g", sagaTopic)
		g.Workers, g.CommitInterval = 1+s.roll(3), time.Duration(1+s.roll(50))*time.Millisecond
		g.BackoffMin, g.BackoffMax = time.Millisecond, 2*time.Millisecond
		g.SessionTimeout, g.HandoverTimeout = 300*time.Millisecond, 150*time.Millisecond
		return g
	}, func(ctx context.Context, m *client.Message) error {
		s.passes(m)
		s.hang(ctx)
		if s.roll(30) == 0 {
			return errors.New("not now")
		}
		s.pass(m)
		return nil
	})
}

// passes checks that the group has handled everything before m.
func (s *lives) passes(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if due, ok := s.due[string(m.Value)]; ok && time.Now().Before(due.Add(-time.Millisecond)) {
		s.failf("%q arrived early", m.Value)
	}
	n, certain := life(bornIn(string(m.Value)), s.phase.Load())
	if !certain {
		return
	}
	done := s.passed[n][m.Partition]
	for offset := range m.Offset {
		if !done[offset] && offset >= s.purged[m.Partition] {
			s.failf("the group got %d of partition %d in life %d, and %d was not handled", m.Offset, m.Partition, n, offset)
			return
		}
	}
}

// pass notes that the group has handled m.
func (s *lives) pass(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grouped[copyFrom(m)] = true
	n, _ := life(0, s.phase.Load())
	if s.passed[n] == nil {
		s.passed[n] = passing{}
	}
	if s.passed[n][m.Partition] == nil {
		s.passed[n][m.Partition] = map[uint64]bool{}
	}
	s.passed[n][m.Partition][m.Offset] = true
}

// commits looks at what the group commits.
func (s *lives) commits() {
	c := s.dial()
	defer s.close(c)
	was, in := map[int]uint64{}, int64(0)
	for s.calm.Err() == nil {
		before := s.phase.Load()
		got, err := c.Committed(s.calm, "g", sagaTopic)
		if err != nil && !gone(err) && s.calm.Err() == nil {
			s.failf("committed: %v", err)
		}
		if before != in {
			clear(was)
			in = before
		}
		if err == nil && before%2 == 0 && before == s.phase.Load() {
			for p, offset := range got {
				if offset < was[p] {
					s.failf("the commit of partition %d went from %d to %d in phase %d", p, was[p], offset, before)
				}
				was[p] = offset
			}
		}
		time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
	}
}

func (s *lives) source(name string) client.Source {
	q := client.Queue(name, sagaTopic)
	q.BackoffMin, q.BackoffMax, q.MaxDeliveries = time.Millisecond, 3*time.Millisecond, 1000
	q.Lease, q.MaxLease = 100*time.Millisecond, 150*time.Millisecond
	return q
}

// starts checks that a message of the queue may be delivered.
func (s *lives) starts(m *client.Message) (in int64) {
	in = s.phase.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.ended[copyFrom(m)]; ok && was == in {
		s.failf("%v was delivered again after its acknowledgement was answered", copyFrom(m))
	}
	return in
}

func (s *lives) finish(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued[copyFrom(m)] = true
}

func (s *lives) queueWorker() {
	s.consume(func() client.Source {
		q := s.source("q")
		q.Workers = 1 + s.roll(5)
		return q
	}, func(ctx context.Context, m *client.Message) error {
		s.starts(m)
		s.hang(ctx)
		switch s.roll(40) {
		case 0:
			return errors.New("not now")
		case 1:
			s.finish(m)
			return client.Reject(errors.New("never"))
		}
		s.finish(m)
		return nil
	})
}

// acker settles messages of the queue by hand, often about when their leases end.
func (s *lives) acker() {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.calm, 5*time.Second)
		q, err := c.OpenQueue(ctx, s.source("q"))
		if err != nil && ctx.Err() == nil && !gone(err) {
			s.failf("open: %v", err)
		}
		for n := 1 + s.roll(20); err == nil && n > 0; n-- {
			err = s.ackSome(q)
		}
		if q != nil {
			if err := q.Close(ctx); err != nil && ctx.Err() == nil && wire.CodeOf(err) != wire.CodeLeaseLost && !gone(err) {
				s.failf("close of a queue: %v", err)
			}
		}
		cancel()
		s.leave(c)
	}
}

func (s *lives) ackSome(q *client.QueueConsumer) error {
	ctx, cancel := context.WithTimeout(s.calm, 50*time.Millisecond)
	defer cancel()
	ms, err := q.Fetch(ctx, 1+s.roll(20))
	if err != nil && ctx.Err() == nil {
		if !gone(err) {
			s.failf("fetch: %v", err)
		}
		return err
	}
	if len(ms) > 0 && s.rough.Err() == nil && s.roll(4) == 0 {
		time.Sleep(time.Duration(90+s.roll(25)) * time.Millisecond)
	}
	acked := map[copyOf]int64{}
	for _, m := range ms {
		in := s.starts(m)
		s.finish(m)
		if m.Ack(s.calm) == nil {
			acked[copyFrom(m)] = in
		}
	}
	if q.Flush(s.calm) != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, in := range acked {
		if in%2 == 0 && in == s.phase.Load() {
			s.ended[m] = in
		}
	}
	return nil
}

func (s *lives) orderedWorker() {
	s.consume(func() client.Source {
		q := s.source("sorted")
		q.Workers, q.OrderByKey = 1+s.roll(5), true
		return q
	}, func(ctx context.Context, m *client.Message) error {
		note := func(success bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.begun = append(s.begun, lifeEvent{string(m.Key), copyFrom(m), success})
		}
		note(false)
		s.hang(ctx)
		if s.roll(30) == 0 {
			return errors.New("not now")
		}
		note(true)
		return nil
	})
}

// follow subscribes again and again.
func (s *lives) follow() {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		k, err := c.Subscribe(s.calm, client.Subscription{Topic: sagaTopic})
		if err == nil {
			err = s.followed(k)
			k.Close()
		}
		if s.calm.Err() == nil && err != nil && !gone(err) && !purged(err) {
			s.failf("subscription: %v", err)
		}
		s.leave(c)
	}
}

func (s *lives) followed(k *client.Consumer) error {
	next := map[int]uint64{}
	for range 1 + s.roll(2000) {
		ctx, cancel := context.WithTimeout(s.calm, 50*time.Millisecond)
		m, err := k.Next(ctx)
		over := ctx.Err() != nil
		cancel()
		if err != nil && over {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Offset < next[m.Partition] {
			s.failf("a subscriber got %d of partition %d after %d", m.Offset, m.Partition, next[m.Partition])
		}
		next[m.Partition] = m.Offset + 1
	}
	return nil
}

// serve answers requests, and ask makes them.
func (s *lives) serve() {
	for s.rough.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		l, err := c.Reply(s.calm, "svc", client.ListenOptions{}, func(_ context.Context, m *client.Message) ([]byte, error) {
			return append([]byte("re "), m.Value...), nil
		})
		if err != nil {
			s.failf("reply: %v", err)
		}
		time.Sleep(time.Duration(s.roll(200)) * time.Millisecond)
		if l != nil {
			_ = l.Close()
		}
		s.hangUp(c)
	}
}

// hangUp closes a client, which may fail: what it sent may be lost with the connection.
func (s *lives) hangUp(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.Close(ctx)
	if ctx.Err() != nil {
		s.failf("close takes too long")
	}
}

func (s *lives) ask() {
	c := s.dial()
	defer s.hangUp(c)
	for i := 0; s.rough.Err() == nil; i++ {
		ctx, cancel := context.WithTimeout(s.calm, time.Duration(s.roll(300))*time.Millisecond)
		returned := s.prompt(ctx, "a request")
		m, err := c.Request(ctx, &client.Message{Subject: "svc", Value: fmt.Appendf(nil, "%d", i)})
		if err == nil && string(m.Value) != fmt.Sprintf("re %d", i) {
			s.failf("request %d was answered with %q", i, m.Value)
		}
		returned()
		cancel()
	}
}

// boot starts a broker on the disk.
func (s *lives) boot() {
	srv, err := server.New(server.Options{Listen: "127.0.0.1:0", Dir: "/data", FS: s.disk, Loops: 2})
	require.NoError(s.t, err)
	require.NoError(s.t, srv.Start())
	s.srv = srv
	s.net.lead(srv.Addr().String())
}

// stop shuts a broker down.
func (s *lives) stop(srv *server.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		s.failf("shutdown: %v", err)
	}
}

// kill replaces the broker by one that finds what a kill or a power cut left. Nobody hears any more from the first one.
func (s *lives) kill(power bool) {
	s.net.lead("")
	left, old := s.disk.Clone(), s.srv
	if power {
		left = left.PowerCut(s.rng2)
	}
	s.disk = left
	s.boot()
	s.stops.Go(func() { s.stop(old) })
}

// admin calls f with a client that the trouble of the others does not reach.
func (s *lives) admin(f func(ctx context.Context, c *client.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, s.srv.Addr().String(), client.Options{})
	if err == nil {
		err = errors.Join(f(ctx, c), c.Close(ctx))
	}
	if err != nil {
		s.failf("admin: %v", err)
	}
}

// grow adds partitions to the topic, or creates it.
func (s *lives) grow() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		info, err := c.Topic(ctx, sagaTopic)
		if gone(err) {
			return s.ensure(ctx, c)
		}
		if n := len(info.Partitions); err == nil && n < 6 {
			_, err = c.AlterTopic(ctx, sagaTopic, client.TopicOptions{Partitions: n + 1})
		}
		return err
	})
}

func (s *lives) ensure(ctx context.Context, c *client.Client) error {
	_, err := c.EnsureTopic(ctx, sagaTopic, client.TopicOptions{
		Partitions: 1 + s.roll(4), Settings: []wire.Setting{{Key: "durability", Value: s.level}},
	})
	return err
}

// purge removes what a partition has up to some offset.
func (s *lives) purge() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		r, err := c.Offsets(ctx, sagaTopic, 0, client.End())
		if gone(err) || err != nil {
			return ignore(err, gone(err))
		}
		before := uint64(s.roll(int(r.Visible) + 1))
		s.mu.Lock()
		s.purged[0] = max(s.purged[0], before)
		s.mu.Unlock()
		return c.PurgeTopic(ctx, sagaTopic, 0, before)
	})
}

func ignore(err error, yes bool) error {
	if yes {
		return nil
	}
	return err
}

// replace deletes the topic. Often it also creates it again; else a publisher does.
func (s *lives) replace() {
	s.phase.Add(1)
	s.admin(func(ctx context.Context, c *client.Client) error {
		err := c.DeleteTopic(ctx, sagaTopic)
		s.mu.Lock()
		s.phase.Add(1)
		clear(s.purged)
		s.mu.Unlock()
		if s.roll(3) == 0 {
			return ignore(err, gone(err))
		}
		return errors.Join(ignore(err, gone(err)), s.ensure(ctx, c))
	})
}

// bury deletes the dead-letter topic, or creates another one.
func (s *lives) bury() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		err := c.DeleteTopic(ctx, sagaTopic+".q.dlq")
		if s.roll(2) == 0 {
			_, err = c.EnsureTopic(ctx, sagaTopic+".q.dlq", client.TopicOptions{Partitions: 1 + s.roll(5)})
		}
		return ignore(err, gone(err))
	})
}

// shake makes trouble.
func (s *lives) shake(kills bool) {
	for s.rough.Err() == nil {
		time.Sleep(time.Duration(s.roll(40)) * time.Millisecond)
		switch s.roll(16) {
		case 0, 1, 2:
			s.net.cut()
		case 3, 4:
			s.grow()
		case 5, 6:
			s.purge()
		case 7:
			s.replace()
		case 8:
			s.bury()
		case 9:
			if kills {
				s.kill(s.level == "disk" && s.roll(2) == 0)
			}
		}
	}
}

// Whatever happens to the topic, to connections, to the broker and to handlers: what was acknowledged and not purged or
// deleted is stored, and the group and the queues handle it, in order where that is promised; what was acknowledged to the
// queue is not delivered again; commits do not go back; every publish has one outcome; every call ends; and nothing is left
// of a client that was closed.
func TestModelOfLives(t *testing.T) {
	seeds.Each(t, 2, func(t *testing.T, seed uint64) { runLives(t, seed) })
}

func runLives(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	s := &lives{
		saga: &saga{
			t: t, net: newFlaky(t, "", rand.New(rand.NewPCG(seed, 4))), rng: rng,
			acked: map[string]spot{}, refused: map[string]error{}, due: map[string]time.Time{},
		},
		rng2: rand.New(rand.NewPCG(seed, 5)), disk: faultfs.New(), level: []string{"os", "disk"}[rng.IntN(2)],
		at: map[string]int64{}, grouped: map[copyOf]bool{}, queued: map[copyOf]bool{}, ended: map[copyOf]int64{},
		passed: map[int64]passing{}, purged: map[int]uint64{}, started: map[string]int{},
	}
	defer s.net.end()
	s.boot()
	defer func() {
		s.stop(s.srv)
		s.stops.Wait()
	}()
	s.admin(s.ensure)
	var endRough, endCalm context.CancelFunc
	s.calm, endCalm = context.WithTimeout(context.Background(), time.Minute)
	defer endCalm()
	s.rough, endRough = context.WithTimeout(s.calm, time.Second)
	defer endRough()
	var producers, consumers sync.WaitGroup
	for _, name := range []string{"one", "two", "later"} {
		producers.Go(func() { s.producer(name, name == "later") })
	}
	producers.Go(s.serve)
	producers.Go(s.ask)
	for range 2 {
		consumers.Go(s.groupMember)
		consumers.Go(s.queueWorker)
		consumers.Go(s.orderedWorker)
	}
	consumers.Go(s.acker)
	consumers.Go(s.commits)
	consumers.Go(s.follow)
	s.shake(seed%2 == 0)
	s.net.calm()
	s.admin(s.ensure)
	producers.Wait()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.pending == 0
	}, 10*time.Second, 5*time.Millisecond, "publishes without an outcome")
	s.settleLives()
	endCalm()
	consumers.Wait()
	require.Eventually(t, func() bool { return leaked() == "" }, 10*time.Second, 5*time.Millisecond, "%s", leaked())
}

// settleLives waits until everything that is stored in the end was handled.
func (s *lives) settleLives() {
	c := s.dial()
	defer s.close(c)
	var all []*client.Message
	var missing string
	for deadline := time.Now().Add(20 * time.Second); ; {
		info, err := c.Topic(s.calm, sagaTopic)
		if err != nil {
			s.failf("topic: %v", err)
			return
		}
		all = s.contents(c, sagaTopic, len(info.Partitions))
		if missing = s.unhandled(all); missing == "" {
			break
		}
		if time.Now().After(deadline) {
			s.failf("%s", missing)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.checkLives(all)
	s.checkDead(c)
}

// checkDead verifies that no dead letter is in the dead-letter topic twice.
func (s *lives) checkDead(c *client.Client) {
	info, err := c.Topic(s.calm, sagaTopic+".q.dlq")
	if err != nil {
		return
	}
	found := map[string]bool{}
	for _, d := range s.contents(c, sagaTopic+".q.dlq", len(info.Partitions)) {
		of := fmt.Sprintf("%s/%s %q", d.Header("rafka-dead-partition"), d.Header("rafka-dead-offset"), d.Value)
		if found[of] {
			s.failf("%s is a dead letter twice", of)
		}
		found[of] = true
	}
}

// unhandled says what is missing, or "".
func (s *lives) unhandled(all []*client.Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted, have := map[copyOf]bool{}, map[string]bool{}
	for _, e := range s.begun {
		if e.success {
			sorted[e.of] = true
		}
	}
	for _, m := range all {
		at := copyFrom(m)
		have[at.value] = true
		switch {
		case !s.grouped[at]:
			return fmt.Sprintf("the group did not handle %v", at)
		case !s.queued[at]:
			return fmt.Sprintf("the queue did not handle %v", at)
		case !sorted[at]:
			return fmt.Sprintf("the ordered queue did not handle %v", at)
		}
	}
	for value, in := range s.at {
		at := s.acked[value]
		purged := at.offset < s.purged[at.partition] || at.offset == 1<<63 && len(s.purged) > 0
		if in == s.phase.Load() && !have[value] && !purged {
			return fmt.Sprintf("%q is not stored at %v", value, at)
		}
	}
	return ""
}

// checkLives verifies what was seen against what the topic holds in the end.
func (s *lives) checkLives(all []*client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, last, keys := map[string]spot{}, map[string]int{}, map[string][]spot{}
	values := map[spot]string{}
	for _, m := range all {
		at := copyFrom(m)
		if was, twice := stored[at.value]; twice {
			s.failf("%q is stored twice: at %v and %v", at.value, was, at.spot)
		}
		stored[at.value], values[at.spot] = at.spot, at.value
		s.inOrder(last, at.value, at.spot)
		keys[string(m.Key)] = append(keys[string(m.Key)], at.spot)
		if was, acked := s.at[at.value]; acked && was < s.phase.Load() {
			s.failf("%q was acknowledged in phase %d, and a later topic holds it", at.value, was)
		}
	}
	var events []event
	for _, e := range s.begun {
		if values[e.of.spot] == e.of.value {
			events = append(events, event{e.key, e.of.spot, e.success})
		}
	}
	s.events = events
	s.checkKeys(keys)
}
