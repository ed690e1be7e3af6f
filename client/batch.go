package client

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// batchKind is what the messages of one batch must have in common.
type batchKind struct {
	level wire.Level
	timed bool  // they have a Time
	ids   bool  // they have an ID
	ttl   int64 // ms
}

// batch is messages of one partition that travel together. Its lane's mutex guards it until it is
// finished.
type batch struct {
	lane *lane
	batchKind
	atomic  bool // stored as a whole or not at all, so it is never split
	builder wire.BatchBuilder
	done    []func(Receipt, error) // a callback or nil for each message; may end early
	size    int                    // bytes taken from the budget
	ahead   int                    // those of them that messages to come may use
	due     bool                   // it has lingered long enough

	sealed   bool
	codec    wire.Codec
	items    items  // of scheduled messages
	packed   []byte // compressed records followed by the encoded batch, or encoded items
	head     int    // size of the compressed records
	bytes    []byte // the encoded batch, once stamped
	frame    []byte // room for the head of the request, then bytes, once stamped; nil when compressed
	lent     bool   // the last connection writes it from frame; guarded by that connection's mutex
	producer wire.Producer
	topicID  [16]byte // the topic that it was sent to first
	// uncertain means that the batch may have been stored, and only sending it again with the same
	// number can tell.
	uncertain bool

	sentAt  time.Time
	id      uint32    // the correlation id of the last attempt
	binding *binding  // of the last attempt
	refused error     // why the broker did not store it; it will be sent again
	giveUp  time.Time // when attempts end; zero before the first refusal
	rebound bool      // it was refused once because of its topic's handle
	flushes []*flush  // calls of Flush that wait for its end
}

// answer is the outcome of a batch.
type answer struct {
	base      uint64 // offset of the first message, or its id when it is scheduled
	level     wire.Level
	duplicate bool
	err       error
}

// count returns how many messages the batch has.
func (b *batch) count() int { return b.items.messages + b.builder.Count() }

// fits reports whether a message of size bytes can join the batch.
func (b *batch) fits(size, limit int, kind batchKind) bool {
	alike := b.batchKind == kind
	if b.isLater() { // the message can be an item of its own
		alike = b.level == kind.level && b.items.closed < maxItems-1
	}
	return alike && len(b.packed)+b.builder.Size()+size <= limit && b.builder.Count() < wire.MaxBatchRecords
}

// account records messages that have been added to the batch: the bytes that they took from the
// budget, and the callback of the first of them, which is at index at. done may be nil.
func (b *batch) account(at, size int, done func(Receipt, error)) {
	b.size += size
	if done == nil {
		return
	}
	for len(b.done) < at {
		b.done = append(b.done, nil)
	}
	b.done = append(b.done, done)
}

// callback returns the callback of the message at an index; nil if it has none.
func (b *batch) callback(at int) func(Receipt, error) {
	if at >= len(b.done) {
		return nil
	}
	return b.done[at]
}

// seal compresses the batch, after which nothing can be added. A batch with message ids is not
// compressed, because the broker must see them.
func (b *batch) seal(c wire.Codec) {
	if b.sealed {
		return
	}
	b.sealed, b.codec = true, wire.CodecNone
	if b.isLater() {
		b.closeItem()
		return
	}
	b.describe(b.batchKind)
	if c == wire.CodecNone || b.ids {
		return
	}
	records := b.builder.Records()
	b.packed = codec.Compress(b.packed[:0], c, records)
	if b.head = len(b.packed); b.head < len(records) {
		b.codec = c
	}
}

// describe puts what the messages in the builder have in common into its header.
func (b *batch) describe(kind batchKind) {
	b.builder.SetTTL(kind.ttl)
	if kind.ids {
		b.builder.MarkIDs()
	}
}

// stamp encodes the batch with its place in its producer's stream; a zero p means none.
func (b *batch) stamp(p wire.Producer) {
	b.producer = p
	if b.isLater() {
		b.frame, b.bytes = b.packed, b.packed[scheduleHead:]
		return
	}
	b.builder.SetProducer(p)
	if b.codec == wire.CodecNone {
		b.frame = b.builder.BytesBehind(publishHead)
		b.bytes = b.frame[publishHead:]
		return
	}
	b.packed = b.builder.AppendCompressed(b.packed[:b.head], b.codec, b.packed[:b.head])
	b.bytes, b.frame = b.packed[b.head:], nil
}

// split returns one batch for each message of b, with the numbers that they have. Afterwards b
// holds nothing of use.
func (b *batch) split() []*batch {
	whole, err := wire.ViewBatch(b.bytes)
	if err != nil {
		panic("client: own batch cannot be read: " + err.Error())
	}
	parts := make([]*batch, 0, b.count())
	share := b.size / b.count()
	for rec, err := range whole.Records() {
		if err != nil {
			panic("client: own record cannot be read: " + err.Error())
		}
		i := len(parts)
		p := b.lane.p.batches.get(b.lane, b.batchKind, 0)
		p.builder.Add(rec)
		p.account(0, share, b.callback(i))
		if i == 0 {
			p.size = b.size - share*(b.count()-1)
		}
		p.seal(wire.CodecNone)
		pr := b.producer
		pr.Sequence += uint64(i)
		p.stamp(pr)
		p.topicID = b.topicID
		for _, f := range b.flushes {
			f.add(p)
		}
		parts = append(parts, p)
	}
	for _, f := range b.flushes {
		f.finished()
	}
	return parts
}

// settle calls the callbacks with the outcome. The caller must hold no lock.
func (b *batch) settle(a answer) {
	r := Receipt{Topic: b.lane.topic.name, Partition: int(b.lane.partition), Level: a.level, Duplicate: a.duplicate}
	if a.err != nil {
		r.Level = wire.LevelDefault
	}
	for i, done := range b.done {
		if done == nil {
			continue
		}
		switch {
		case a.err != nil:
		case b.isLater():
			r.Schedule = a.base + uint64(i)
		default:
			r.Offset = a.base + uint64(i)
		}
		done(r, a.err)
	}
}

// batchPool recycles batches with their memory. It is not a sync.Pool, because that is emptied by
// every garbage collection: growing batches again cost 80 bytes of allocation for each message.
type batchPool struct {
	keepBytes int // a larger batch is left to the garbage collector
	keep      int // how many batches are kept at most

	mu   sync.Mutex // guards free
	free []*batch
}

// get returns an empty batch. A new one is made with memory for the given number of bytes: growing
// it step by step would touch twice as much.
func (p *batchPool) get(l *lane, kind batchKind, bytes int) *batch {
	b := p.pop()
	if b == nil {
		b = new(batch)
		b.builder.Grow(bytes)
	}
	b.lane, b.batchKind = l, kind
	return b
}

func (p *batchPool) pop() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return nil
	}
	b := p.free[n-1]
	p.free[n-1] = nil
	p.free = p.free[:n-1]
	return b
}

// put takes a finished batch back. Nothing may refer to its bytes: they were copied to a connection
// or written.
func (p *batchPool) put(b *batch) {
	if b.builder.Size() > p.keepBytes || cap(b.packed) > 2*p.keepBytes {
		return
	}
	poison(b.builder.Records())
	b.builder.Reset()
	clear(b.done)
	*b = batch{builder: b.builder, done: b.done[:0], packed: b.packed[:0], flushes: b.flushes[:0]}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < p.keep {
		p.free = append(p.free, b)
	}
}

// flush waits until a set of batches is finished.
type flush struct {
	left atomic.Int64
	done chan struct{}
}

func newFlush() *flush {
	f := &flush{done: make(chan struct{})}
	f.left.Store(1) // held while batches are added
	return f
}

func (f *flush) add(b *batch) {
	f.left.Add(1)
	b.flushes = append(b.flushes, f)
}

func (f *flush) finished() {
	if f.left.Add(-1) == 0 {
		close(f.done)
	}
}
