package server

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

const (
	// maxTextLease is the most messages that LEASE takes at once.
	maxTextLease = 100
	// maxTextLeases bounds the messages that one text session has leased.
	maxTextLeases = 10_000
)

// textLease identifies a message that a text session has leased.
type textLease struct {
	p      *partition.Partition
	queue  string
	offset uint64
}

// lease creates the queue on every partition that does not have it, and then leases messages.
func (t *text) lease(args []string, now time.Time) error {
	topic, err := t.find(args[0])
	if err != nil {
		return err
	}
	count, err := parseCount(args, 2, 1, maxTextLease)
	if err != nil {
		return err
	}
	queue := args[1]
	if err := checkQueue(topic, &wire.OpenQueue{Group: queue}); err != nil {
		return err
	}
	if len(t.leases)+count > maxTextLeases {
		t.forgetEnded()
	}
	if len(t.leases)+count > maxTextLeases {
		return wire.Errorf(wire.CodeLimit, "%d messages of this connection are leased", len(t.leases))
	}
	var opened []logged
	for _, p := range topic.Partitions() {
		if p.Err() != nil || p.HasQueue(queue) {
			continue
		}
		index, err := p.OpenQueue(queue, p.First(), partition.QueuePolicy{}, now)
		if err != nil {
			return err
		}
		opened = append(opened, logged{p, index})
	}
	if len(opened) == 0 {
		return t.take(topic, queue, count, now)
	}
	t.s.pause()
	wait := &textWait{t, func(now time.Time) error { return t.take(topic, queue, count, now) }}
	t.s.loop.awaitStates(opened, ack{to: wait})
	return nil
}

// forgetEnded forgets some of the leases that ended unsettled, for example because they expired.
func (t *text) forgetEnded() {
	var found [1]group.Pending
	looks := 10 * maxTextLease // about half a millisecond
	for key, attempt := range t.leases {
		list, err := key.p.Pending(found[:0], key.queue, key.offset, 1)
		held := err == nil && len(list) == 1 && list[0].First == key.offset &&
			list[0].Phase == group.PhaseLeased && list[0].Attempts == attempt
		if !held {
			delete(t.leases, key)
		}
		if looks--; looks == 0 {
			return
		}
	}
}

// take leases messages from the first partition that has any, and shows them.
func (t *text) take(topic *partition.Topic, queue string, count int, now time.Time) error {
	parts := topic.Partitions()
	first := int(t.s.loop.srv.leaseTurn.Add(1) % uint64(len(parts)))
	for i := range parts {
		p := parts[(first+i)%len(parts)]
		if p.Err() != nil {
			continue
		}
		leases, err := p.Lease(nil, queue, count, 0, t.s.id, now)
		if errors.Is(err, partition.ErrKeys) {
			return t.work(true, func() (func(time.Time) error, error) {
				return func(now time.Time) error { return t.take(topic, queue, count, now) }, p.LearnKeys(queue)
			})
		}
		if err != nil {
			return err
		}
		if len(leases) > 0 {
			return t.showLeases(p, queue, leases)
		}
	}
	t.line("+OK nothing to do")
	return nil
}

func (t *text) showLeases(p *partition.Partition, queue string, leases []group.Lease) error {
	if t.queues == nil {
		t.queues, t.leases = map[leaseKey]struct{}{}, map[textLease]uint32{}
		t.s.loop.srv.metrics.workers.Add(1)
	}
	t.queues[leaseKey{p, queue}] = struct{}{}
	slices.SortFunc(leases, func(x, y group.Lease) int { return cmp.Compare(x.First, y.First) })
	err := t.work(true, func() (func(time.Time) error, error) {
		var g gatherer
		err := g.gather(p, leases, p.ReadCold)
		show := shower{p: p, verb: "LEASED", limit: math.MaxInt, bytes: math.MaxInt}
		err = errors.Join(err, show.leased(&g))
		return func(now time.Time) error {
			if errors.Is(err, wire.CodeCorruptRange) { // a worker of the other protocol is told, and reports it
				t.s.loop.srv.opts.Logger.Warn("messages of a queue are lost to damage",
					"partition", p.String(), "queue", queue, "err", err)
			}
			err := g.settleRest(p, queue, err, now)
			for _, l := range g.sent {
				for i := range uint64(l.Count) {
					t.leases[textLease{p, queue, l.First + i}] = l.Attempt
				}
			}
			t.show(&show)
			if show.count == 0 && err != nil {
				return err
			}
			t.line("+OK %s", counted(show.count, "message"))
			return nil
		}, nil
	})
	if err != nil {
		giveBack(p, queue, leases, nil, t.s.loop.srv.opts.Now())
	}
	return err
}

func (t *text) ack(args []string, now time.Time) error {
	return t.settle(args, partition.Settlement{Op: wire.OpAck}, now)
}

func (t *text) nack(args []string, now time.Time) error {
	s := partition.Settlement{Op: wire.OpNack, Delay: -1, Reason: "NACK"}
	if len(args) > 2 {
		var err error
		if s.Delay, err = time.ParseDuration(args[2]); err != nil || s.Delay < 0 || s.Delay > maxTextDelay {
			return wire.Errorf(wire.CodeInvalid, "%q is not a delay such as 500ms or 10s, at most %s", args[2], maxTextDelay)
		}
	}
	return t.settle(args, s, now)
}

// maxTextDelay is the longest delay that the binary protocol can express.
const maxTextDelay = 24 * 24 * time.Hour

func (t *text) reject(args []string, now time.Time) error {
	reason := strings.Join(args[2:], " ")
	if reason == "" {
		reason = "REJECT"
	}
	return t.settle(args, partition.Settlement{Op: wire.OpReject, Reason: reason[:min(len(reason), wire.MaxReasonBytes)]}, now)
}

// settle settles one message and answers when that is durable.
func (t *text) settle(args []string, s partition.Settlement, now time.Time) error {
	p, word, err := t.place(args[0])
	if err != nil {
		return err
	}
	offset, err := parseOffset(word)
	if err != nil {
		return err
	}
	queue := args[1]
	key := textLease{p, queue, offset}
	attempt, leased := t.leases[key]
	if !leased {
		return wire.Errorf(wire.CodeLeaseLost, "%s@%d of queue %q is not leased on this connection", p, offset, queue)
	}
	s.Ranges = []group.Settle{{First: offset, Count: 1, Attempt: attempt}}
	index, lost, err := p.Settle(queue, s, now)
	if err != nil {
		return err
	}
	delete(t.leases, key)
	if lost > 0 {
		return wire.Errorf(wire.CodeLeaseLost, "the lease of %s@%d ended", p, offset)
	}
	t.waitFor(p, index, min(p.Topic().Config().Level, p.StateLevel()), fmt.Sprintf("%s@%d settled", p, offset))
	return nil
}
