package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// DeadLetterQueue is the queue over a dead-letter topic that knows which dead letters were replayed or
// discarded. DeadLetters opens it. A program may also consume it like any queue: what it acknowledges
// disappears from the list.
const DeadLetterQueue = "rafka.dlq"

// Headers that ReplayDead sets.
const (
	// HeaderReplayCount counts how often a message was replayed from a dead-letter topic.
	HeaderReplayCount = "rafka-replay-count"
	deadPrefix        = "rafka-dead-"
)

// DeadLetter is a message that a queue gave up on.
type DeadLetter struct {
	Message                   // as it is in the dead-letter topic
	Queue           string    // that gave up
	OriginTopic     string    // where the message was
	OriginPartition int       // where the message was
	OriginOffset    uint64    // where the message was
	Reason          string    // of the last failure
	Attempts        int       // deliveries it had
	First, Last     time.Time // of its failures
}

// newDeadLetter reads the headers. It returns nil for a message that is no dead letter.
func newDeadLetter(m *Message) *DeadLetter {
	d := &DeadLetter{Message: *m}
	for _, h := range m.Headers {
		name, ok := strings.CutPrefix(h.Name, deadPrefix)
		if !ok {
			continue
		}
		v := string(h.Value)
		switch name {
		case "topic":
			d.OriginTopic = v
		case "partition":
			d.OriginPartition, _ = strconv.Atoi(v)
		case "offset":
			d.OriginOffset, _ = strconv.ParseUint(v, 10, 64)
		case "group":
			d.Queue = v
		case "reason":
			d.Reason = v
		case "attempts":
			d.Attempts, _ = strconv.Atoi(v)
		case "first-time":
			d.First, _ = time.Parse(time.RFC3339Nano, v)
		case "last-time":
			d.Last, _ = time.Parse(time.RFC3339Nano, v)
		}
	}
	if d.OriginTopic == "" {
		return nil
	}
	return d
}

// DeadLetters iterates over the dead letters in a dead-letter topic that were not replayed or discarded and
// are not leased by a worker, partition by partition in offset order. Other messages of the topic are left
// out. An error ends the iteration.
func (c *Client) DeadLetters(ctx context.Context, topic string) iter.Seq2[*DeadLetter, error] {
	return func(yield func(*DeadLetter, error) bool) {
		info, err := c.openDeadLetters(ctx, topic)
		if err != nil {
			yield(nil, err)
			return
		}
		for p := range info.Partitions {
			if info.Partitions[p].Status == wire.StatusForeign {
				continue
			}
			if !c.deadIn(ctx, topic, p, yield) {
				return
			}
		}
	}
}

// openDeadLetters makes the queue over a dead-letter topic unless it exists.
func (c *Client) openDeadLetters(ctx context.Context, topic string) (wire.TopicInfo, error) {
	info, err := c.Topic(ctx, topic)
	if err != nil {
		return info, err
	}
	groups, err := c.Groups(ctx, DeadLetterQueue)
	if err != nil {
		return info, err
	}
	if slices.ContainsFunc(groups, func(g wire.GroupInfo) bool { return g.Topic == topic && g.Mode == "queue" }) {
		return info, nil
	}
	_, err = c.do(ctx, call{
		op: wire.OpOpenQueue, topic: topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.OpenQueue{Handle: b.Handle, Group: DeadLetterQueue, Start: Start().wire()}
			return m.Append(dst)
		},
	})
	return info, err
}

// deadIn walks over one partition and reports whether to go on.
func (c *Client) deadIn(ctx context.Context, topic string, partition int, yield func(*DeadLetter, error) bool) bool {
	for from := uint64(0); ; {
		ranges, err := c.Pending(ctx, topic, DeadLetterQueue, partition, from, 0)
		if err != nil {
			yield(nil, err)
			return false
		}
		for _, r := range ranges {
			from = r.First + r.Count
			if r.Phase == wire.PhaseLeased || r.Phase == wire.PhaseDead {
				continue
			}
			if !c.deadRange(ctx, topic, partition, r, yield) {
				return false
			}
		}
		if len(ranges) < wire.MaxPendingRanges {
			return true
		}
	}
}

func (c *Client) deadRange(ctx context.Context, topic string, partition int, r wire.PendingRange, yield func(*DeadLetter, error) bool) bool {
	end := r.First + r.Count
	for next := r.First; next < end; {
		f, err := c.Fetch(ctx, FetchRequest{Topic: topic, Partition: partition, From: At(next)})
		var we *wire.Error
		switch {
		case errors.As(err, &we) && we.Code == wire.CodeCorruptRange && we.Next > next:
			next = we.Next
			continue
		case errors.As(err, &we) && we.Code == wire.CodeOffsetOutOfRange && we.First > next:
			next = we.First // retention was faster
			continue
		case err != nil:
			yield(nil, err)
			return false
		case f.Next <= next:
			return true
		}
		for i := range f.Messages {
			m := &f.Messages[i]
			if m.Offset < next || m.Offset >= end {
				continue
			}
			if d := newDeadLetter(m); d != nil && !yield(d, nil) {
				return false
			}
		}
		next = f.Next
	}
	return true
}

// ReplayDead publishes dead letters to the topics they came from: to the same partition, with the same key,
// value and headers, except those that describe the failure; HeaderReplayCount is incremented. A dead
// letter that was stored again is discarded from its dead-letter topic; after a crash in between it may be
// replayed twice. ReplayDead returns how many were replayed, and the first error; the others stay dead
// letters.
func (c *Client) ReplayDead(ctx context.Context, letters ...*DeadLetter) (replayed int, err error) {
	r := deadReplay{c: c, partitions: map[string]int{}}
	for _, d := range letters {
		if n := r.partitionsOf(ctx, d.OriginTopic); n > 0 {
			r.publish(ctx, d, n)
		}
	}
	if err := c.Flush(ctx); err != nil {
		return 0, err
	}
	r.wg.Wait()
	if err := c.DiscardDead(ctx, r.stored...); err != nil {
		r.fail(fmt.Errorf("replayed, but still listed: %w", err))
	}
	return len(r.stored), r.err
}

// deadReplay is one call to ReplayDead.
type deadReplay struct {
	c          *Client
	partitions map[string]int // by topic; 0 for a topic that does not exist
	wg         sync.WaitGroup // of the publishes

	mu     sync.Mutex // guards the fields below
	stored []*DeadLetter
	err    error // the first
}

// partitionsOf returns how many partitions a topic has, and 0 when it does not exist: a topic that was deleted
// is not made again.
func (r *deadReplay) partitionsOf(ctx context.Context, topic string) int {
	n, known := r.partitions[topic]
	if known {
		return n
	}
	info, err := r.c.Topic(ctx, topic)
	if err != nil {
		r.fail(err)
	}
	r.partitions[topic] = len(info.Partitions)
	return len(info.Partitions)
}

// publish publishes a dead letter to its topic of so many partitions. The reply comes later.
func (r *deadReplay) publish(ctx context.Context, d *DeadLetter, partitions int) {
	r.wg.Add(1)
	err := r.c.PublishAsync(ctx, d.alive(partitions), func(_ Receipt, err error) {
		defer r.wg.Done()
		if err != nil {
			r.fail(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stored = append(r.stored, d)
	})
	if err != nil {
		r.wg.Done()
		r.fail(err)
	}
}

// fail keeps the first error.
func (r *deadReplay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// alive returns the message as it was before it died, for a topic of so many partitions.
func (d *DeadLetter) alive(partitions int) *Message {
	m := &Message{Topic: d.OriginTopic, Key: d.Key, Value: d.Value, Subject: d.Subject}
	if d.OriginPartition < partitions {
		m.Partition, m.Pinned = d.OriginPartition, true
	}
	count := 0
	for _, h := range d.Headers {
		switch {
		case strings.HasPrefix(h.Name, deadPrefix):
		case h.Name == HeaderReplayCount:
			count, _ = strconv.Atoi(string(h.Value))
		default:
			m.Headers = append(m.Headers, h)
		}
	}
	m.Headers = append(m.Headers, Header{HeaderReplayCount, strconv.AppendInt(nil, int64(count+1), 10)})
	return m
}

// DiscardDead takes dead letters off the list of DeadLetters for good. The messages stay in the
// dead-letter topic until its retention removes them.
func (c *Client) DiscardDead(ctx context.Context, letters ...*DeadLetter) error {
	type place struct {
		topic     string
		partition int
	}
	byPlace := map[place][]wire.PendingRange{}
	for _, d := range letters {
		at := place{d.Topic, d.Partition}
		ranges := byPlace[at]
		if n := len(ranges); n > 0 && ranges[n-1].First+ranges[n-1].Count == d.Offset {
			ranges[n-1].Count++
			continue
		}
		byPlace[at] = append(ranges, wire.PendingRange{First: d.Offset, Count: 1})
	}
	for at, ranges := range byPlace {
		if _, err := c.Discard(ctx, at.topic, DeadLetterQueue, at.partition, ranges); err != nil {
			return err
		}
	}
	return nil
}
