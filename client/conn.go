package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// maxKeptOut bounds the write buffer that a connection keeps for reuse.
const maxKeptOut = 4 << 20

// conn is one connection that has logged in. It ends with the first error; the client then opens
// another one. Three goroutines serve it: the reader dispatches what arrives, the writer sends
// everything that was queued during its previous write, and the prober pings the broker. A caller that
// waits for an answer writes its request itself; when nothing else is expected, it also reads the
// answer (see attend.go).
type conn struct {
	c      *Client
	nc     net.Conn
	frames *frameReader
	server Server
	hello  wire.HelloReply

	wake    chan struct{} // signals the writer that out has bytes
	down    chan struct{} // closed by fail
	written atomic.Uint64 // how many bytes of the stream the kernel took; changed by whoever has writing
	direct  *directWrite  // nil when only the writer can write; used by whoever has writing
	line    *greeted      // counts reads, for probeLoop
	trip    atomic.Int64  // see roundTrip

	refreshed time.Time // when a failure last refreshed all topics; the reader's
	heard     heard     // the reader's
	frame     frame     // the last one read; a field, because it escapes into handlers; owned by whoever has the turn

	recall chan struct{} // signals the reader to take its turn back

	mu        sync.Mutex         // guards the fields below
	turn      turn               // whose turn it is to read
	out       outbox             // frames to write
	queued    uint64             // how many bytes of the stream were queued
	sending   outbox             // taken from out, and being written
	part      int                // index of the part of sending to write next
	writing   bool               // the writer or a caller writes from sending
	sent      bool               // a message to a subject was sent
	last      uint32             // the latest correlation id
	pending   map[uint32]request // requests that wait for an answer, by correlation id
	subs      map[uint32]*part
	fired     []fired // batches at wire.LevelNone that are not written yet, in stream order
	topics    map[string]*binding
	unacked   int // bytes of batches that wait for an answer
	settling  int // requests to be answered before a draining connection closes
	listens   map[uint32]*Listener
	listening map[*Listener]uint32
	members   map[uint32]*membership
	sends     map[uint32]func(error) // callbacks for refused messages to subjects
	room      sync.Cond              // of mu: out was taken, bytes were written, or the connection ended
	starved   []*lane                // lanes to kick when unacked falls
	draining  bool                   // the broker shuts down: nothing more is published here
	err       error                  // why the connection ended
	lost      time.Time              // when it did
}

// request is a request that waits for its answer.
type request struct {
	op    wire.Op
	end   uint64              // position in the stream of the end of its frame
	batch *batch              // of a publish; its lane takes the answer
	reply func(*frame, error) // takes the answer to any other request
	long  bool                // the answer may take long by design: fetches, leases
}

// fired is a batch at wire.LevelNone. It is done as soon as it is written.
type fired struct {
	batch *batch
	end   uint64 // position in the stream of the end of its frame
}

// binding is a topic as one connection knows it, with the handle that names it there.
type binding struct {
	conn *conn
	wire.ResolveReply
}

func newConn(c *Client, nc net.Conn, line *greeted) *conn {
	cn := &conn{
		c: c, nc: nc, line: line, frames: newFrameReader(nc, &c.buffers), direct: newDirectWrite(nc),
		wake: make(chan struct{}, 1), down: make(chan struct{}), recall: make(chan struct{}, 1), turn: turn{taken: true},
		pending: map[uint32]request{}, subs: map[uint32]*part{}, topics: map[string]*binding{},
		members: map[uint32]*membership{},
		listens: map[uint32]*Listener{}, listening: map[*Listener]uint32{}, sends: map[uint32]func(error){},
	}
	cn.room.L = &cn.mu
	return cn
}

// serve runs the connection until it fails, and returns the reason. It ends the requests that are
// unanswered.
func (cn *conn) serve() error {
	var wg sync.WaitGroup
	wg.Go(cn.readLoop)
	wg.Go(cn.writeLoop)
	wg.Go(cn.probeLoop)
	wg.Wait()
	cn.abandon()
	return cn.err
}

// fail ends the connection. Only the first reason counts.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	first := cn.err == nil
	if first {
		cn.err, cn.lost = err, time.Now()
		close(cn.down)
		cn.room.Broadcast()
	}
	cn.mu.Unlock()
	if first {
		_ = cn.nc.Close()
	}
}

func (cn *conn) alive() bool {
	select {
	case <-cn.down:
		return false
	default:
		return true
	}
}

// nextIDLocked returns a correlation id that is not in use.
func (cn *conn) nextIDLocked() uint32 {
	for {
		cn.last++
		_, waits := cn.pending[cn.last]
		_, subscribed := cn.subs[cn.last]
		_, listens := cn.listens[cn.last]
		_, member := cn.members[cn.last]
		if !waits && !subscribed && !listens && !member && cn.last != 0 {
			return cn.last
		}
	}
}

// ask sends a request without waiting. body appends its body. reply is called once, on the
// connection's reader: with the answer, with the *wire.Error of an error answer, or with a
// *lostError. On a dead connection it is called at once, by ask. reply must not block.
func (cn *conn) ask(op wire.Op, flags wire.Flags, body func([]byte) []byte, reply func(*frame, error)) {
	id, err := cn.enqueue(op, flags, body, reply, nil)
	if id == 0 {
		reply(nil, &lostError{reason: err})
		return
	}
	cn.wakeWriter()
}

// enqueue queues a request for sending. It calls register, unless that is nil, with the request's
// id while mu is held. It returns 0 when the connection is dead. Otherwise the caller must have the
// request written, with wakeWriter or push.
func (cn *conn) enqueue(op wire.Op, flags wire.Flags, body func([]byte) []byte, reply func(*frame, error), register func(id uint32)) (uint32, error) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil {
		return 0, cn.err
	}
	id := cn.enqueueLocked(op, flags, body, reply)
	if register != nil {
		register(id)
	}
	return id, nil
}

// enqueueLocked queues a request on a connection that is not dead, and returns its id.
func (cn *conn) enqueueLocked(op wire.Op, flags wire.Flags, body func([]byte) []byte, reply func(*frame, error)) uint32 {
	id := cn.nextIDLocked()
	cn.appendLocked(op, flags, id, body)
	long := op == wire.OpFetch || op == wire.OpLease
	cn.pending[id] = request{op: op, end: cn.queued, reply: reply, long: long}
	if !long {
		cn.settling++
	}
	return id
}

func (cn *conn) appendLocked(op wire.Op, flags wire.Flags, id uint32, body func([]byte) []byte) {
	before := len(cn.out.own)
	out, at := wire.BeginFrame(cn.out.own, op, flags, id)
	if body != nil {
		out = body(out)
	}
	cn.out.own = wire.EndFrame(out, at)
	cn.queued += uint64(len(cn.out.own) - before)
}

// tell sends a frame that gets no answer.
func (cn *conn) tell(op wire.Op, id uint32, body func([]byte) []byte) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err == nil {
		cn.appendLocked(op, 0, id, body)
		cn.wakeWriter()
	}
}

// do sends a request and waits for the answer. The buffer belongs to the caller. The error is a
// *wire.Error, a *lostError, or the cause of ctx.
func (cn *conn) do(ctx context.Context, op wire.Op, flags wire.Flags, body func([]byte) []byte) (*buffer, error) {
	type result struct {
		buf *buffer
		err error
	}
	done := make(chan result, 1)
	id, err := cn.enqueue(op, flags, body, func(f *frame, err error) {
		if err != nil {
			done <- result{err: err}
			return
		}
		done <- result{buf: f.own()}
	}, nil)
	if id == 0 {
		return nil, &lostError{reason: err}
	}
	cn.push()
	cn.attend(ctx, id)
	select {
	case r := <-done:
		return r.buf, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sendBatch queues a batch for sending; the caller must have it written. ok is false when the batch
// cannot be sent now: the connection is dead or draining, and the next one will take it; or too
// much is unanswered, and l is kicked when that falls. The caller holds l.mu.
func (cn *conn) sendBatch(l *lane, b *batch, handle uint16) (ok bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil || cn.draining {
		return false
	}
	limit := int(cn.hello.MaxInFlight)
	if limit > 0 && cn.unacked > 0 && cn.unacked+len(b.bytes) > limit {
		if l.starved != cn {
			l.starved = cn
			cn.starved = append(cn.starved, l)
		}
		return false
	}
	id := cn.nextIDLocked()
	cn.appendBatchLocked(l, b, handle, id)
	b.sentAt, b.id = time.Now(), id
	if b.level == wire.LevelNone {
		cn.fired = append(cn.fired, fired{batch: b, end: cn.queued})
		return true
	}
	cn.pending[id] = request{op: l.op, end: cn.queued, batch: b}
	cn.unacked += len(b.bytes)
	cn.settling++
	return true
}

const (
	// publishBytes is the size of a publish's body before its batch.
	publishBytes = 4
	// publishHead is the size of a publish before its batch.
	publishHead = wire.HeaderBytes + publishBytes
	// lentBytes is the size from which a batch is written from where it is. A smaller one is
	// copied, which costs less than a write of its own.
	lentBytes = 64 << 10
)

// appendBatchLocked queues the request of a batch.
func (cn *conn) appendBatchLocked(l *lane, b *batch, handle uint16, id uint32) {
	var room [scheduleHead]byte
	head := b.appendHead(room[:0], l, handle, id)
	cn.queued += uint64(len(head) + len(b.bytes))
	b.lent = b.frame != nil && len(b.bytes) >= lentBytes
	if b.lent {
		whole := b.frame[len(b.frame)-len(b.bytes)-len(head):]
		copy(whole, head)
		cn.out.lend(whole)
		return
	}
	cn.out.room(len(head) + len(b.bytes))
	cn.out.own = append(append(cn.out.own, head...), b.bytes...)
}

// appendHead appends what the request of a batch has before the batch.
func (b *batch) appendHead(dst []byte, l *lane, handle uint16, id uint32) []byte {
	flags := wire.Flags(b.level)
	if !b.isLater() {
		dst = wire.AppendHeader(dst, l.op, flags, id, publishBytes+len(b.bytes))
		return (&wire.Publish{Handle: handle, Partition: l.partition}).Append(dst)
	}
	size := scheduleHead - wire.HeaderBytes
	if b.producer.ID != 0 {
		flags |= wire.FlagNumbered
	} else {
		size -= 3 * 8
	}
	dst = wire.AppendHeader(dst, l.op, flags, id, size+len(b.bytes))
	return wire.AppendScheduleHead(dst, handle, l.partition, b.producer, b.items.closed)
}

// drain publishes nothing more, and closes the connection once groups have committed what is handled and every request
// is answered that changes something. Its goroutine ends after settleTime, or with the client. The connection's reader
// calls it, so no later connection is live before the groups are held.
func (cn *conn) drain() {
	cn.mu.Lock()
	cn.draining = true
	cn.settling++
	cn.mu.Unlock()
	members := cn.c.holdGroups()
	go func() {
		cn.c.settleGroups(members)
		cn.mu.Lock()
		cn.settling--
		cn.mu.Unlock()
		cn.closeIfDrained()
	}()
}

// lostTime is how long the members of groups go on without a connection. A broker gives their partitions to others a second
// after the connection broke, or two after it is back from a restart.
const lostTime = 750 * time.Millisecond

// isOver reports whether the broker stops, or the connection has been lost for lostTime.
func (cn *conn) isOver() bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.draining || cn.err != nil && time.Since(cn.lost) >= lostTime
}

var errDrained = errors.New("the broker is shutting down")
