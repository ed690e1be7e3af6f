package server

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// binary is the binary protocol of one session.
type binary struct {
	s      *session
	ready  bool    // the hello was accepted
	begun  bool    // the preface was read
	part   []byte  // the start of a frame whose rest has not arrived
	need   int     // size of the frame in part; 0 while unknown
	pooled *buffer // owner of part's memory; nil when that is not pooled

	topics      []*partition.Topic // by handle
	handles     map[*partition.Topic]uint16
	groups      map[string]string          // group names seen, so that a frame's name costs no allocation
	subs        map[uint32]*subscription   // by correlation id
	listens     map[uint32]*liveSub        // live subscriptions by correlation id
	leases      map[leaseKey]struct{}      // queues that this connection has leased from
	seats       map[seatKey]struct{}       // members of groups that joined on this connection
	blocked     []request                  // requests that wait for the peer to read earlier replies
	reads       []request                  // reads of the disk that wait for the end of others, or for the peer
	errands     []request                  // other requests for workers that wait likewise
	coldSubs    []*subscription            // subscriptions that wait likewise to read the disk
	fullSubs    []*subscription            // subscriptions that wait for the peer to read
	polls       map[*poll]struct{}         // long polls, and leases that wait for messages
	leasing     map[*leaseRequest]struct{} // leases that wait for whatever
	polled      int                        // partitions on which they wait
	held        int                        // bytes of publishes that wait for durability
	coordinated int                        // bytes of requests that wait for the coordinator
	working     int                        // requests with the workers
	cold        int                        // of those, reads of the disk

	ack ackFrame // the last publish reply in the output buffer, to be extended
}

// request is a request that is tried again: when the peer has read, or when a worker has finished for the session.
type request interface{ retry(now time.Time) }

// leaseKey names a queue on one partition.
type leaseKey struct {
	p     *partition.Partition
	group string
}

func newBinary(s *session) *binary {
	s.loop.srv.metrics.binarySessions.Add(1)
	return &binary{s: s}
}

// run processes input, the preface and then frames, until the login must be checked or the turn is over, and returns how
// much it processed. The start of a frame whose rest is missing goes to a buffer of its own.
func (b *binary) run(in []byte, now time.Time) (used int) {
	all := len(in)
	turn := binaryTurn{loop: b.s.loop}
	b.s.loop.unmeasured = 0
	for len(in) > 0 && !b.s.closed && !b.s.backlog.paused && turn.goesOn() {
		if !b.begun {
			in = b.feedPreface(in)
			continue
		}
		if len(b.part) > 0 {
			in = b.feedPart(in, now)
			continue
		}
		f, rest, need, ok, err := wire.NextFrame(in, b.limit())
		if err != nil {
			b.refuseFrame(in, err)
			return all
		}
		if !ok {
			b.keep(in, need)
			return all
		}
		b.dispatch(f, now)
		in = b.follow(rest, now)
	}
	return all - len(in)
}

// flooded says what was sent too much of. After the login only a driver that cannot pause reading gets here.
func (b *binary) flooded(limit int) {
	if b.s.judging {
		b.fail(wire.OpHello, 0, wire.Errorf(wire.CodeUnauthenticated, "over %d bytes before the reply to hello", limit))
		return
	}
	b.notice(wire.CodeLimit, 0, "too much was sent while requests wait")
}

// limit returns the size of the largest frame in bytes, which is small before the login.
func (b *binary) limit() int {
	if b.ready {
		return wire.MaxFrameBytes
	}
	return wire.MaxHelloBytes
}

func (b *binary) feedPreface(in []byte) (rest []byte) {
	n := min(len(in), wire.PrefaceBytes-len(b.part))
	b.part = append(b.part, in[:n]...)
	if len(b.part) < wire.PrefaceBytes {
		return in[n:]
	}
	version, err := wire.ParsePreface(b.part)
	b.part, b.begun = nil, true
	switch {
	case err != nil:
		b.fail(wire.OpHello, 0, wire.Errorf(wire.CodeMalformed, "the connection does not begin with a Rafka preface"))
		b.s.close()
	case version != wire.Version:
		b.fail(wire.OpHello, 0, wire.Errorf(wire.CodeUnsupported,
			"the client speaks protocol version %d, this broker version %d", version, wire.Version))
		b.s.close()
	}
	return in[n:]
}

// keep stores the start of a frame. The buffer of a large frame is taken from a pool, because the next large frame will
// need it again, and the first use of new memory costs more than filling it.
func (b *binary) keep(in []byte, need int) {
	b.need = need
	if need > pooledPart {
		b.part = nil
		b.makeRoom(len(in))
	} else {
		b.part = make([]byte, 0, max(need, wire.HeaderBytes))
	}
	b.part = append(b.part, in...)
}

// makeRoom makes room in part for size bytes of a large frame, in a larger buffer when necessary.
func (b *binary) makeRoom(size int) {
	if size <= cap(b.part) {
		return
	}
	larger := takeBuffer(bufferClass(roomFor(size, b.need)))
	larger.B = append(larger.B, b.part...)
	putBuffer(b.pooled)
	b.pooled, b.part = larger, larger.B
	b.s.countPart(cap(b.part))
}

// pooledPart is the size of a frame above which its buffer is taken from the pool.
const pooledPart = 16 << 10

// feedPart adds input to the partial frame, and dispatches the frame when it is complete.
func (b *binary) feedPart(in []byte, now time.Time) (rest []byte) {
	if b.need == 0 { // not even the length is complete
		n := min(len(in), 4-len(b.part))
		b.part = append(b.part, in[:n]...)
		in = in[n:]
		_, _, need, _, err := wire.NextFrame(b.part, b.limit())
		if err != nil {
			b.refuseFrame(b.part, err)
			return nil
		}
		if need > 0 {
			b.keep(b.part, need)
		}
		return in
	}
	n := min(len(in), b.need-len(b.part))
	if b.pooled != nil {
		b.makeRoom(len(b.part) + n)
	}
	b.part = append(b.part, in[:n]...)
	if len(b.part) == b.need {
		f, _, _, _, _ := wire.NextFrame(b.part, b.limit())
		pooled := b.pooled // not b's own any more: the connection may end meanwhile
		b.part, b.need, b.pooled = nil, 0, nil
		b.s.countPart(0)
		b.dispatch(f, now) // does not keep the frame
		putBuffer(pooled)
		return b.follow(in[n:], now)
	}
	return in[n:]
}

// refuseFrame answers a frame with an invalid length and closes the connection, because what follows cannot be parsed.
func (b *binary) refuseFrame(in []byte, err error) {
	e := wire.Errorf(wire.CodeMalformed, "%v", err)
	if errors.Is(err, wire.ErrFrameTooLarge) {
		e = wire.Errorf(wire.CodeTooLarge, "a frame has at most %d bytes", b.limit())
	}
	op := wire.OpHello
	if len(in) > 4 && b.ready {
		op = wire.Op(in[4]) &^ wire.OpReply
	}
	b.fail(op, 0, e)
	b.s.loop.srv.metrics.malformed.Add(1)
	b.s.close()
}

// dispatch runs the handler of a frame's operation.
func (b *binary) dispatch(f wire.Frame, now time.Time) {
	b.s.loop.scratch.run.p = nil
	if f.Op == wire.OpPublish && b.ready { // the hot path
		b.publish(f, now)
		return
	}
	b.s.loop.turn.requests++
	b.s.loop.unmeasured += workOf(f.Op)
	spec := &operations[f.Op]
	switch {
	case !b.ready && f.Op != wire.OpHello:
		b.fail(f.Op&^wire.OpReply, f.Correlation, wire.Errorf(wire.CodeUnauthenticated, "the first frame must be hello, not %s", f.Op))
		b.s.close()
	case spec.handle == nil:
		b.fail(f.Op&^wire.OpReply, f.Correlation, wire.Errorf(wire.CodeUnsupported, "unknown operation 0x%02x", uint8(f.Op)))
	case f.Flags&^spec.flags != 0:
		b.failFrame(f, wire.Errorf(wire.CodeUnsupported, "unknown flags 0x%02x for %s", uint8(f.Flags&^spec.flags), f.Op))
	default:
		b.s.loop.srv.metrics.requests[f.Op].Add(1)
		if err := spec.handle(b, f, now); err != nil {
			b.failFrame(f, err)
		}
	}
}

// failFrame answers a request that failed. It closes the connection after a body that cannot be decoded, because the
// peer's other frames cannot be trusted either.
func (b *binary) failFrame(f wire.Frame, err error) {
	if errors.Is(err, wire.ErrMalformed) {
		b.s.loop.srv.metrics.malformed.Add(1)
		b.fail(f.Op, f.Correlation, wire.Errorf(wire.CodeMalformed, "the body of %s cannot be decoded", f.Op))
		b.s.close()
		return
	}
	b.fail(f.Op, f.Correlation, asWireError(err))
	if !b.ready { // it was the hello
		b.s.close()
	}
}

// fail appends an error reply.
func (b *binary) fail(op wire.Op, correlation uint32, e *wire.Error) {
	b.s.loop.srv.metrics.failed(op, e.Code)
	out := b.s.buffer()
	out.B = wire.AppendError(out.B, op, correlation, e)
}

// reply appends a reply. appendBody appends its body; nil means an empty one.
func (b *binary) reply(f wire.Frame, appendBody func(dst []byte) []byte) {
	b.replyTo(f.Op, f.Correlation, 0, appendBody)
}

func (b *binary) replyTo(op wire.Op, correlation uint32, flags wire.Flags, appendBody func(dst []byte) []byte) {
	b.push(op|wire.OpReply, correlation, flags, appendBody)
}

// push appends a frame. appendBody appends its body; nil means an empty one.
func (b *binary) push(op wire.Op, correlation uint32, flags wire.Flags, appendBody func(dst []byte) []byte) {
	out := b.s.buffer()
	dst, at := wire.BeginFrame(out.B, op, flags, correlation)
	if appendBody != nil {
		dst = appendBody(dst)
	}
	out.B = wire.EndFrame(dst, at)
}

// waiting reports whether a preface, hello or frame is incomplete.
func (b *binary) waiting() bool { return len(b.part) > 0 || !b.ready }

// quiet sends nothing, because clients of the binary protocol ping by themselves.
func (b *binary) quiet(idle time.Duration) bool { return idle > b.s.loop.srv.opts.IdleTimeout }

// drain tells the peer to reconnect elsewhere.
func (b *binary) drain(grace time.Duration) {
	b.notice(wire.CodeShutdown, grace, "the broker is shutting down")
}

// notice sends a Notice.
func (b *binary) notice(code wire.Code, grace time.Duration, detail string) {
	n := wire.Notice{Code: code, GraceMs: uint32(grace.Milliseconds()), Detail: detail}
	b.push(wire.OpNotice, 0, 0, n.Append)
}

// unblock retries the requests that waited for the peer to read, or for workers, until it is blocked again. It looks at no
// more of those for workers than can start: there may be thousands, and it is called whenever a worker has finished.
func (b *binary) unblock(now time.Time) bool {
	always := func() bool { return true }
	retryAll(b, &b.blocked, always, now)
	retryAll(b, &b.reads, b.mayRead, now)
	retryAll(b, &b.errands, b.mayWork, now)
	retryAll(b, &b.coldSubs, b.mayPush, now)
	retryAll(b, &b.fullSubs, always, now)
	return b.waits()+len(b.coldSubs)+len(b.fullSubs) > 0
}

// retryAll retries what is in queue while it may start and the peer reads.
func retryAll[R request](b *binary, queue *[]R, may func() bool, now time.Time) {
	var none R
	for n := len(*queue); n > 0 && !b.s.blocked() && may(); n-- { // a retry may wait again
		r := (*queue)[0]
		(*queue)[0] = none
		*queue = (*queue)[1:]
		r.retry(now)
	}
}

// waits returns how many requests wait to be tried again.
func (b *binary) waits() int { return len(b.blocked) + len(b.reads) + len(b.errands) }

// later tries r again when the peer has read.
func (b *binary) later(r request) error { return b.enlist(&b.blocked, r) }

// enlist adds r to one of the queues of requests that wait.
func (b *binary) enlist(queue *[]request, r request) error {
	if b.waits() >= maxBlocked {
		return wire.Errorf(wire.CodeLimit, "%d requests wait for their turn", maxBlocked)
	}
	*queue = append(*queue, r)
	b.s.block()
	return nil
}

// ended releases what the connection held: subscriptions, leases and memberships.
func (b *binary) ended(now time.Time) {
	putBuffer(b.pooled)
	b.part, b.pooled = nil, nil
	for _, sub := range b.subs {
		sub.end()
	}
	for q := range b.polls {
		q.end()
	}
	b.s.loop.forget(slices.Collect(maps.Values(b.listens)), func(time.Time) {}, now)
	for key := range b.leases {
		key.p.ReturnLeases(key.group, b.s.id, now)
	}
	b.unseat()
	if b.leases != nil {
		b.s.loop.srv.metrics.workers.Add(-1)
	}
	b.s.loop.srv.metrics.binarySessions.Add(-1)
}

// topic returns the topic of a handle. The error says that the handle is unknown or the topic was deleted.
func (b *binary) topic(handle uint16) (*partition.Topic, error) {
	if int(handle) >= len(b.topics) {
		return nil, wire.Errorf(wire.CodeTopicNotFound, "handle %d was not resolved on this connection", handle)
	}
	t := b.topics[handle]
	return t, t.Err()
}

// topicFor returns a handle's topic when the user may do action on it.
func (b *binary) topicFor(handle uint16, action action) (*partition.Topic, error) {
	t, err := b.topic(handle)
	if err != nil {
		return nil, err
	}
	return t, b.allowed(action, t.Name())
}

// partition returns a partition of a handle's topic when the user may do action on it.
func (b *binary) partition(handle, number uint16, action action) (*partition.Partition, error) {
	t, err := b.topicFor(handle, action)
	if err != nil {
		return nil, err
	}
	p := t.Partition(number)
	if p == nil {
		return nil, partition.NoPartition(t, number)
	}
	return p, p.Err()
}

// allowed is session.allowed.
func (b *binary) allowed(action action, topic string) error {
	return b.s.allowed(action, topic)
}

// groupName returns name as a string. Names seen before cost no allocation.
func (b *binary) groupName(name []byte) string {
	if known, ok := b.groups[string(name)]; ok {
		return known
	}
	if len(b.groups) >= 1024 {
		b.groups = nil // bounds the memory; only a peer with very many groups pays for it
	}
	if b.groups == nil {
		b.groups = map[string]string{}
	}
	s := string(name)
	b.groups[s] = s
	return s
}
