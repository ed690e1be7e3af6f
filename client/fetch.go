package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// FetchRequest asks for messages of one partition.
type FetchRequest struct {
	Topic     string
	Partition int
	From      Position // default: the start
	Group     string   // whose committed offset From refers to, if any
	// MinBytes delays the answer until that many bytes are available or MaxWait has passed. Default
	// 1.
	MinBytes int
	// MaxBytes bounds the answer; if the first batch is larger, it is returned whole. Default 1
	// MiB.
	MaxBytes int
	// MaxWait is how long the broker waits for MinBytes. Default 0: it answers at once, as for a negative
	// one. At most 5 minutes.
	MaxWait time.Duration
	// Filter selects messages by their headers, at the broker. Default: all messages.
	Filter wire.Filter
}

// Fetched is the result of a Fetch.
type Fetched struct {
	// Messages share one block of memory, which nothing overwrites before Release: keeping one
	// message keeps all of it. They may be empty while Next advances, because a filter or compaction
	// left out what was read.
	Messages []Message
	First    uint64 // the first offset that is stored
	Visible  uint64 // the end of what can be read now
	Next     uint64 // where to read next

	topicID [16]byte
	client  *Client // nil when there is nothing to release
	body    *buffer
}

// Release lets later fetches use the memory of the messages, which reads a backlog about twice as
// fast. It is optional. Afterwards Messages is nil, and no copy of a message may be used, nor its key,
// value or headers.
func (f *Fetched) Release() {
	c, ms := f.client, f.Messages
	if c == nil {
		return
	}
	c.buffers.put(f.body)
	clear(ms)
	c.fetched.Put(&ms)
	f.client, f.body, f.Messages = nil, nil, nil
}

// takeMessages returns an empty slice with memory for n messages.
func (c *Client) takeMessages(n int) []Message {
	if ms, ok := c.fetched.Get().(*[]Message); ok && cap(*ms) >= n {
		return (*ms)[:0]
	}
	return make([]Message, 0, n)
}

const defaultFetchBytes = 1 << 20

// Fetch reads messages of one partition once. When the context has no deadline, Fetch waits for at
// most MaxWait plus Options.RequestTimeout.
//
// For offsets that cannot be read the error is an *Error: with wire.CodeOffsetOutOfRange when they
// do not exist, where Err.First and Err.Next bound the offsets that do; with wire.CodeCorruptRange
// when they are damaged, where reading can go on at Err.Next.
func (c *Client) Fetch(ctx context.Context, r FetchRequest) (Fetched, error) {
	set(&r.MinBytes, 1)
	set(&r.MaxBytes, defaultFetchBytes)
	r.MaxWait = min(max(0, r.MaxWait), wire.MaxWaitMs*time.Millisecond)
	if err := checkPartition(wire.OpFetch, r.Topic, r.Partition); err != nil {
		return Fetched{}, err
	}
	if r.MinBytes < 0 || r.MaxBytes < 0 {
		we := wire.Errorf(wire.CodeInvalid, "MinBytes and MaxBytes must not be negative")
		return Fetched{}, explain(we, wire.OpFetch, r.Topic, r.Partition)
	}
	if !r.Filter.Valid() {
		return Fetched{}, badFilter(wire.OpFetch, r.Topic)
	}
	if err := r.From.checkGroup(wire.OpFetch, r.Topic, r.Group); err != nil {
		return Fetched{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		bounded, cancel := context.WithTimeout(ctx, r.MaxWait+min(c.opts.RequestTimeout, math.MaxInt64-r.MaxWait))
		defer cancel()
		ctx = bounded
	}
	from := r.From
	switch from.kind {
	case fromStart, fromTime, fromOffset:
	default: // an answer holds whole batches: to skip what is before the position, its offset must be known
		o, err := c.offsets(ctx, r.Topic, r.Partition, from, r.Group)
		if err != nil {
			return Fetched{}, err
		}
		from = At(o.Offset)
	}
	for {
		f, err := c.fetchOnce(ctx, &r, from)
		if first, ok := passedBy(err, from); ok && r.From.kind != fromOffset {
			from = At(first) // retention was faster, and the caller did not ask for an offset
			continue
		}
		if err != nil || len(f.Messages) > 0 || f.Next >= f.Visible || from.kind == fromOffset && f.Next <= from.value {
			return f, err
		}
		from = At(f.Next) // no message was among what was read
		f.Release()
	}
}

// passedBy returns the first offset that is stored when err says that retention has removed what is at from.
func passedBy(err error, from Position) (first uint64, ok bool) {
	we, ok := errors.AsType[*wire.Error](err)
	if !ok || we.Code != wire.CodeOffsetOutOfRange || from.kind != fromOffset {
		return 0, false
	}
	return we.First, we.First > from.value
}

func (c *Client) fetchOnce(ctx context.Context, r *FetchRequest, from Position) (Fetched, error) {
	var b *binding
	buf, err := c.exchange(ctx, call{
		op: wire.OpFetch, topic: r.Topic, partition: r.Partition,
		body: func(dst []byte, bd *binding) []byte {
			b = bd
			m := wire.Fetch{
				Handle: bd.Handle, Partition: uint16(r.Partition), From: from.wire(),
				MinBytes: uint32(min(r.MinBytes, math.MaxInt32)), MaxBytes: uint32(min(r.MaxBytes, math.MaxInt32)), MaxWaitMs: waitMs(r.MaxWait),
				Filter: r.Filter,
			}
			return m.Append(dst)
		},
	})
	if err != nil {
		return Fetched{}, err
	}
	return c.readFetched(r, buf, b, from)
}

// readFetched decodes a reply.
func (c *Client) readFetched(r *FetchRequest, buf *buffer, b *binding, from Position) (Fetched, error) {
	var e wire.Entries
	if err := e.Parse(buf.body); err != nil {
		return Fetched{}, fmt.Errorf("fetch %s/%d: %w: %w", r.Topic, r.Partition, ErrProtocol, err)
	}
	f := Fetched{First: e.First, Visible: e.Visible, Next: e.Next, topicID: b.ID, client: c, body: buf}
	skip := e.First
	if from.kind == fromOffset {
		skip = from.value
	}
	f.Messages = c.takeMessages(countRecords(e.Bytes))
	cur := cursor{keep: true}
	cur.reset(e.Bytes, b.seed(r.Partition), skip)
	for {
		ok, err := cur.more()
		if ok {
			f.Messages, err = cur.drain(f.Messages, r.Topic, r.Partition)
		}
		we, _ := errors.AsType[*wire.Error](err)
		switch {
		case we != nil && len(f.Messages) > 0:
			f.Next = we.First // the next fetch reports it
			return f, nil
		case err != nil:
			return Fetched{}, explain(err, wire.OpFetch, r.Topic, r.Partition)
		case !ok:
			return f, nil
		}
	}
}

// countRecords sums the record counts of the entries, to reserve memory once. The counts are not
// verified yet, so no more are believed than the bytes could hold.
func countRecords(entries []byte) int {
	n, rest := 0, entries
	for {
		e, behind, err := wire.ViewEntry(rest)
		if err != nil {
			return n
		}
		n += min(int(e.Count), len(e.Payload))
		rest = behind
	}
}

// checkPartition refuses a number that no partition can have.
func checkPartition(op wire.Op, topic string, partition int) error {
	if partition >= 0 && partition < wire.MaxPartitions {
		return nil
	}
	we := wire.Errorf(wire.CodePartitionNotFound, "there is no partition %d", partition)
	return explain(we, op, topic, partition)
}

func badFilter(op wire.Op, topic string) error {
	we := wire.Errorf(wire.CodeInvalid, "a filter has at most %d terms, each with a name and at most %d bytes", wire.MaxFilterTerms, wire.MaxFilterBytes)
	return explain(we, op, topic, anyPartition)
}
