package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// feed is a subscription to partitions of one topic. It outlives connections: each partition
// resumes at the offset after the last one received, so nothing is lost or repeated.
type feed struct {
	c      *Client
	topic  string
	window int // bytes of a partition that may be delivered and not released
	filter wire.Filter
	sink   func(delivery) // takes what arrives, in order within a partition; must not block

	mu    sync.Mutex // guards the fields below and those of the parts
	id    [16]byte   // the topic's id, once known; zero before
	ended bool
	parts []*part
}

// part is one partition of a feed.
type part struct {
	f         *feed
	partition uint16
	next      uint64 // the offset to receive next
	conn      *conn  // the connection of the subscription; nil while there is none
	sub       uint32 // identifies the subscription on conn
	seed      uint32 // initial state of the entries' checksums
	held      int    // bytes that are delivered and not released
	owed      int    // bytes that are released and not yet credited to the broker
	pauser    pauser
}

// delivery is what a partition passes to the sink: entries, a range that was skipped, or the end of
// the feed.
type delivery struct {
	part    *part
	buf     *buffer // holds entries; nil when there are none
	entries []byte
	seed    uint32
	from    uint64 // messages before this offset are to be skipped
	next    uint64 // the offset after the entries, and after what the broker left out
	err     error
	final   bool // err ends the feed
}

// newFeed returns a feed that will read from the given offset in each partition.
func (c *Client) newFeed(topic string, window int, from map[int]uint64, sink func(delivery)) *feed {
	f := &feed{c: c, topic: topic, window: min(window, mostCredit), sink: sink}
	for p, off := range from {
		f.parts = append(f.parts, &part{f: f, partition: uint16(p), next: off, pauser: newPauser()})
	}
	return f
}

// start subscribes on the live connection. When there is none, it leaves that to the next one.
func (f *feed) start() error {
	c := f.c
	c.mu.Lock()
	f.mu.Lock()
	cn, err := c.conn.Load(), c.err
	if err == nil && !f.ended {
		c.feeds[f] = struct{}{}
	}
	f.mu.Unlock()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if cn != nil {
		f.resume(cn)
	}
	return nil
}

// resume subscribes on a connection to every partition that it does not deliver yet.
func (f *feed) resume(cn *conn) {
	cn.resolveLater(f.topic, false, func(b *binding, err error) {
		_, cut := lost(err)
		switch {
		case err == nil && f.sameTopic(b):
			for _, p := range f.parts {
				p.subscribe(b)
			}
		case err == nil:
			f.end(explain(errOtherTopic, wire.OpSubscribe, f.topic, anyPartition))
		case cut: // the next connection resumes
		case retryLater(err):
			f.later(cn, jitter(time.Second/2), func() { f.resume(cn) })
		default:
			f.end(explain(err, wire.OpSubscribe, f.topic, anyPartition))
		}
	})
}

// later calls do after d, unless the connection is dead by then.
func (f *feed) later(cn *conn, d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		if cn.alive() {
			do()
		}
	})
}

func (f *feed) sameTopic(b *binding) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id != ([16]byte{}) && f.id != b.ID {
		return false
	}
	f.id = b.ID
	return true
}

// topicID returns the id of the topic, or zero before the first subscription.
func (f *feed) topicID() [16]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id
}

// close ends the feed without telling the sink.
func (f *feed) close() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.c.mu.Lock()
	delete(f.c.feeds, f)
	f.c.mu.Unlock()
	for _, p := range f.parts {
		p.unsubscribe()
	}
}

// end closes the feed and tells the sink why, once.
func (f *feed) end(err error) {
	f.mu.Lock()
	first := !f.ended
	f.ended = true
	f.mu.Unlock()
	if !first {
		return
	}
	f.close()
	f.sink(delivery{part: f.parts[0], err: err, final: true})
}

// subscribe subscribes from the next offset on.
func (p *part) subscribe(b *binding) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.f.ended || p.conn == b.conn {
		return
	}
	m := wire.Subscribe{
		Handle: b.Handle, Partition: p.partition, From: At(p.next).wire(),
		Credit: uint32(max(1, p.f.window-p.held)), Filter: p.f.filter,
	}
	id, err := b.conn.enqueue(wire.OpSubscribe, 0, m.Append, func(_ *frame, err error) {
		if we, ok := errors.AsType[*wire.Error](err); ok {
			p.onRefused(b.conn, we)
		}
	}, func(id uint32) { b.conn.subs[id] = p })
	if err == nil {
		p.conn, p.sub, p.owed = b.conn, id, 0
		p.seed = b.seed(int(p.partition))
		b.conn.wakeWriter()
	}
}

// onRefused takes the refusal of a subscribe.
func (p *part) onRefused(cn *conn, we *wire.Error) {
	p.f.mu.Lock()
	id := p.sub
	p.f.mu.Unlock()
	cn.unregister(id)
	p.onEnd(cn, we)
}

func (p *part) unsubscribe() {
	p.f.mu.Lock()
	cn, id := p.conn, p.sub
	p.conn = nil
	p.f.mu.Unlock()
	if cn != nil {
		cn.unregister(id)
		cn.ask(wire.OpUnsubscribe, 0, wire.Unsubscribe{Subscription: id}.Append, func(*frame, error) {})
	}
}

// unregister makes the connection ignore deliveries to the subscription id.
func (cn *conn) unregister(id uint32) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	delete(cn.subs, id)
}

// onEntries takes a delivery. An error ends the connection.
func (p *part) onEntries(cn *conn, f *frame) error {
	var e wire.Entries
	if err := e.Parse(f.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	p.f.mu.Lock()
	if p.f.ended || p.conn != cn {
		p.f.mu.Unlock()
		return nil
	}
	if e.Next < p.next || p.held > p.f.window+wire.MaxFrameBytes {
		p.f.mu.Unlock()
		return fmt.Errorf("%w: a delivery goes back, or beyond the credit", ErrProtocol)
	}
	d := delivery{part: p, seed: p.seed, from: p.next, next: e.Next}
	p.next = e.Next
	p.held += len(e.Bytes)
	p.pauser = newPauser()
	p.f.mu.Unlock()
	if len(e.Bytes) > 0 {
		d.buf = f.keep()
		d.entries = d.buf.body[wire.EntriesFixed:]
	} else if d.next == d.from {
		return nil
	}
	p.f.sink(d)
	return nil
}

// release recycles a delivery's memory and credits its bytes to the broker. It credits large
// amounts together. It also credits what there is when nothing is left to read, because an entry
// larger than the remaining credit waits for that.
func (p *part) release(d *delivery) {
	if d.buf == nil {
		return
	}
	n := len(d.entries)
	p.f.c.buffers.put(d.buf)
	d.buf, d.entries = nil, nil
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.held -= n
	p.owed += n
	if p.conn == nil || p.held > 0 && 2*p.owed < p.f.window {
		return
	}
	credit := wire.Credit{Subscription: p.sub, Bytes: uint32(p.owed)}
	p.owed = 0
	p.conn.tell(wire.OpCredit, 0, credit.Append)
}

// onLost forgets the subscription of a dead connection.
func (p *part) onLost(cn *conn) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.conn == cn {
		p.conn = nil
	}
}

// onEnd subscribes again after the broker ended the subscription, or ends the feed when that cannot
// help.
func (p *part) onEnd(cn *conn, we *wire.Error) {
	p.onLost(cn)
	p.f.mu.Lock()
	next, pause := p.next, p.pauser.step()
	p.f.mu.Unlock()
	if skip, ok := skipped(we, next); ok {
		p.f.mu.Lock()
		p.next = skip.Next
		p.f.mu.Unlock()
		p.f.sink(delivery{part: p, err: explain(skip, wire.OpSubscribe, p.f.topic, int(p.partition))})
		p.f.resume(cn)
		return
	}
	if we.Retry == wire.RetryLater {
		p.f.later(cn, pause, func() { p.f.resume(cn) })
		return
	}
	p.f.end(explain(we, wire.OpSubscribe, p.f.topic, int(p.partition)))
}

// skipped returns the range that must be skipped to go on after the error we, and whether there is
// one: damaged messages, or messages that retention removed.
func skipped(we *wire.Error, next uint64) (*wire.Error, bool) {
	skip := *we
	switch we.Code {
	case wire.CodeCorruptRange:
		return &skip, we.Next > next
	case wire.CodeOffsetOutOfRange:
		skip.First, skip.Next = next, we.First
		return &skip, we.First > next
	}
	return nil, false
}

// origins resolves the position of a subscription to an offset in each of its partitions. Unless those are named, it
// also returns the topic's id: an offset means nothing in another topic of that name.
func (c *Client) origins(ctx context.Context, s Subscription) (from map[int]uint64, id [16]byte, err error) {
	for {
		partitions := s.Partitions
		if partitions == nil {
			info, err := c.Topic(ctx, s.Topic)
			if err != nil {
				return nil, id, err
			}
			id = info.ID
			for i := range info.Partitions {
				partitions = append(partitions, i)
			}
		}
		replies, err := c.offsetsOf(ctx, s.Topic, partitions, s.From, s.Group)
		if s.Partitions == nil && errors.Is(err, wire.CodePartitionNotFound) {
			continue // meanwhile the topic was deleted and created again, with fewer
		}
		if err != nil {
			return nil, id, err
		}
		from = make(map[int]uint64, len(partitions))
		for i, o := range replies {
			from[partitions[i]] = o.Offset
		}
		return from, id, nil
	}
}
