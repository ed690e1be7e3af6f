package client_test

import (
	"context"
	"errors"
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
