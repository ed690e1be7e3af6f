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

// DeadLetterQueue is the queue on a dead-letter topic that records which dead letters were replayed
// or discarded. DeadLetters creates it. A program may also consume it like any other queue; what it
// acknowledges leaves the list of DeadLetters.
const DeadLetterQueue = "rafka.dlq"

const (
	// HeaderReplayCount counts how often a message was replayed from a dead-letter topic.
	// ReplayDead sets it.
	HeaderReplayCount = "rafka-replay-count"
	deadPrefix        = "rafka-dead-"
)

// DeadLetter is a message that a queue or group gave up on.
type DeadLetter struct {
	Message                   // as stored in the dead-letter topic
	Queue           string    // the queue or group that gave up
	OriginTopic     string    // where the message was published
	OriginPartition int       // its partition there
	OriginOffset    uint64    // its offset there
	Reason          string    // of the last failure
	Attempts        int       // how often it was delivered
	First, Last     time.Time // the first and the last failure

	storedIn [16]byte // the id of its dead-letter topic; zero means whichever has the name
}

// newDeadLetter reads the headers that describe the failure. It returns nil for any other message.
func newDeadLetter(m *Message) *DeadLetter {
	d := &DeadLetter{Message: *m}
	for _, h := range m.Headers {
		v := string(h.Value)
		switch h.Name {
		case wire.HeaderDeadTopic:
			d.OriginTopic = v
		case wire.HeaderDeadPartition:
			d.OriginPartition, _ = strconv.Atoi(v)
		case wire.HeaderDeadOffset:
			d.OriginOffset, _ = strconv.ParseUint(v, 10, 64)
		case wire.HeaderDeadGroup:
			d.Queue = v
		case wire.HeaderDeadReason:
			d.Reason = v
		case wire.HeaderDeadAttempts:
			d.Attempts, _ = strconv.Atoi(v)
		case wire.HeaderDeadFirst:
			d.First, _ = time.Parse(time.RFC3339Nano, v)
		case wire.HeaderDeadLast:
			d.Last, _ = time.Parse(time.RFC3339Nano, v)
		}
	}
	if d.OriginTopic == "" {
		return nil
	}
	return d
}

// DeadLetters iterates over the dead letters of a dead-letter topic, partition by partition in
// offset order. It leaves out those that were replayed or discarded, those that a worker holds, and
// other messages of the topic. An error ends the iteration.
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

// openDeadLetters creates the queue on a dead-letter topic unless it exists.
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
	return info, c.request(ctx, call{
		op: wire.OpOpenQueue, topic: topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.OpenQueue{Handle: b.Handle, Group: DeadLetterQueue, Start: Start().wire()}
			return m.Append(dst)
		},
	}, nil)
}

// deadIn walks over one partition. It returns false when the iteration is to end.
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
			d := newDeadLetter(m)
			if d == nil {
				continue
			}
			d.storedIn = f.topicID
			if !yield(d, nil) {
				return false
			}
		}
		next = f.Next
	}
	return true
}

// ReplayDead publishes dead letters again on the topics they came from: in the same partition, if
// it still exists, and with the same key, value, subject and headers, except those that describe
// the failure. HeaderReplayCount is incremented. A dead letter that was stored again is then
// discarded from its dead-letter topic; after a crash in between, it may be replayed twice.
//
// ReplayDead returns how many were replayed, and the first error. The others remain dead letters.
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

// partitionsOf returns how many partitions a topic has, or 0 when it does not exist: a topic that
// was deleted is not created again.
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

// publish publishes a dead letter to its topic, which has the given number of partitions. The
// answer arrives later.
func (r *deadReplay) publish(ctx context.Context, d *DeadLetter, partitions int) {
	r.wg.Add(1)
	err := r.c.PublishAsync(ctx, d.original(partitions), func(_ Receipt, err error) {
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

// original returns the message to publish again: the one that became the dead letter, without the
// dead-letter headers and with its replay count increased. It is pinned to its first partition if
// the topic, which has the given number of partitions, still has that one. It shares the memory of d.
func (d *DeadLetter) original(partitions int) *Message {
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

// DiscardDead removes dead letters from the list of DeadLetters for good. The messages stay in the
// dead-letter topic until its retention removes them. The error is wire.CodeTopicDeleted when that topic was
// deleted and created again: the dead letters of the new one stay in its list.
func (c *Client) DiscardDead(ctx context.Context, letters ...*DeadLetter) error {
	type source struct { // the topic and partition that the dead letters are stored in
		topic     string
		id        [16]byte
		partition int
	}
	bySource := map[source][]wire.PendingRange{}
	for _, d := range letters {
		from := source{d.Topic, d.storedIn, d.Partition}
		ranges := bySource[from]
		if n := len(ranges); n > 0 && ranges[n-1].First+ranges[n-1].Count == d.Offset {
			ranges[n-1].Count++
			continue
		}
		bySource[from] = append(ranges, wire.PendingRange{First: d.Offset, Count: 1})
	}
	for from, ranges := range bySource {
		if _, err := c.discard(ctx, from.topic, from.id, DeadLetterQueue, from.partition, ranges); err != nil {
			return err
		}
	}
	return nil
}
