package server

import (
	"errors"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// subscription pushes a partition's entries to one connection. It keeps a cursor, not a buffer: what
// the peer has no credit for stays in the log.
type subscription struct {
	b           *binary
	w           *watch
	p           *partition.Partition
	correlation uint32
	cursor      uint64
	credit      int64 // bytes the peer still takes; below zero after an entry larger than what was left
	granted     int64 // the first credit: with all of it back, nothing is outstanding
	maxBytes    int
	stalled     bool // waits in a queue: for the peer to read, or for a worker
	cold        bool // a worker reads for it
	filter      wire.Filter
	bytes       int // memory
	skips       int // reads in a row that found nothing to send
}

func (b *binary) subscribe(f wire.Frame, now time.Time) error {
	var m wire.Subscribe
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	if _, ok := b.subs[f.Correlation]; ok {
		return wire.Errorf(wire.CodeInvalid, "subscription %d exists on this connection", f.Correlation)
	}
	if len(b.subs) >= maxSubscriptions {
		return wire.Errorf(wire.CodeLimit, "a connection has at most %d subscriptions", maxSubscriptions)
	}
	if m.Credit == 0 {
		return wire.Errorf(wire.CodeInvalid, "a subscription without credit would never get anything")
	}
	sub := &subscription{
		b: b, p: p, correlation: f.Correlation, credit: int64(m.Credit), granted: int64(m.Credit),
		maxBytes: deliverBytes, filter: m.Filter, bytes: pushBytes + m.Filter.Size(),
	}
	if m.MaxBytes > 0 {
		sub.maxBytes = min(int(m.MaxBytes), maxFetchBytes)
	}
	if m.From.Kind == wire.PositionTime {
		return b.locate(p, m.From, m.Group, f.Op, f.Correlation, sub.start)
	}
	offset, err := p.Locate(m.From, m.Group)
	if err != nil {
		return err
	}
	return sub.start(offset, now)
}

// start registers the subscription and pushes its backlog.
func (sub *subscription) start(offset uint64, _ time.Time) error {
	b := sub.b
	if _, ok := b.subs[sub.correlation]; ok {
		return wire.Errorf(wire.CodeInvalid, "subscription %d exists on this connection", sub.correlation)
	}
	if !b.s.roomForSub(sub.bytes) {
		return wire.Errorf(wire.CodeLimit, "the %d subscriptions of this connection take all the memory that they may have now", len(b.subs))
	}
	b.s.countSub(sub.bytes)
	if b.subs == nil {
		b.subs = map[uint32]*subscription{}
	}
	sub.cursor = offset
	b.subs[sub.correlation] = sub
	sub.w = b.s.loop.watch(sub.p)
	sub.w.subs.add(sub)
	b.s.loop.srv.metrics.subscriptions.Add(1)
	b.replyTo(wire.OpSubscribe, sub.correlation, 0, wire.SubscribeReply{Offset: offset}.Append)
	sub.w.watcher.Arm()
	sub.push()
	return nil
}

// push sends what is visible and covered by credit.
func (sub *subscription) push() {
	for !sub.ended() && !sub.cold && !sub.stalled && sub.credit > 0 {
		if sub.b.s.blocked() {
			sub.stall(&sub.b.fullSubs)
			return
		}
		if sub.cursor >= sub.p.Visible() {
			return
		}
		if len(sub.filter) > 0 {
			sub.pushSifted()
			return
		}
		if !sub.pushOnce() {
			return
		}
	}
}

// pushOnce sends one frame. It reports whether another may follow at once.
func (sub *subscription) pushOnce() bool {
	c := &sub.b.s.loop.chunk
	defer c.Release()
	err := sub.p.Read(c, sub.cursor, sub.room())
	switch {
	case errors.Is(err, log.ErrCold):
		return sub.pushCold()
	case err != nil:
		sub.fail(asWireError(err))
		return false
	case c.Bytes == 0:
		return sub.skip(c)
	case !sub.covers(c.Bytes):
		return false
	}
	sub.send(c)
	return true
}

// skip goes on behind what is over its time to live, at once or, after much of it, in the next turn. At
// the end it tells the peer how far it got: a group is done with what it never saw.
func (sub *subscription) skip(c *log.Chunk) (again bool) {
	if c.Next <= sub.cursor {
		return false
	}
	sub.cursor = c.Next
	if sub.cursor >= sub.p.Visible() {
		sub.b.sendEntries(wire.OpDeliver, sub.correlation, sub.p, sub.cursor, c)
		return false
	}
	if sub.skips++; sub.skips < maxSkips {
		return true
	}
	sub.skips = 0
	sub.b.s.loop.post(jobFunc(func(time.Time) {
		if !sub.ended() {
			sub.push()
		}
	}))
	return false
}

// room is how many bytes of entries the next frame may have.
func (sub *subscription) room() int { return int(min(int64(sub.maxBytes), max(1, sub.credit))) }

// covers reports whether the credit takes entries of n bytes. One entry larger than all credit is sent when
// nothing else is outstanding.
func (sub *subscription) covers(n int) bool {
	return int64(n) <= sub.credit || sub.credit >= sub.granted
}

func (sub *subscription) send(c *log.Chunk) {
	sub.b.sendEntries(wire.OpDeliver, sub.correlation, sub.p, sub.cursor, c)
	sub.cursor = max(sub.cursor, c.Next)
	sub.credit -= int64(c.Bytes)
	sub.skips = 0
}

// pushCold reads with a worker and goes on from there.
func (sub *subscription) pushCold() bool {
	cursor, room := sub.cursor, sub.room()
	sub.work(func() (then func()) {
		c := new(log.Chunk)
		err := sub.p.ReadCold(c, cursor, room)
		return func() {
			defer c.Release()
			switch {
			case sub.ended():
				return
			case err != nil:
				sub.fail(asWireError(err))
				return
			case c.Bytes > 0 && sub.covers(c.Bytes):
				sub.send(c)
			case c.Bytes > 0 || !sub.skip(c):
				return
			}
			sub.push()
		}
	})
	return false
}

// work runs block on a worker, and then what it returned on the loop. Nothing is pushed meanwhile.
func (sub *subscription) work(block func() (then func())) {
	if sub.b.mayPush() {
		err := sub.b.enqueue(workCold, func() func(time.Time) {
			then := block()
			return func(time.Time) {
				sub.cold = false
				then()
			}
		})
		if err == nil {
			sub.cold = true
			return
		}
	}
	sub.stall(&sub.b.coldSubs)
}

// stall makes the subscription wait for its turn in a queue. The queue has room for those that ended in it, but not for
// any number of them.
func (sub *subscription) stall(queue *[]*subscription) {
	sub.stalled = true
	if len(*queue) > 2*len(sub.b.subs) {
		*queue = slices.DeleteFunc(*queue, (*subscription).over)
	}
	*queue = append(*queue, sub)
	sub.b.s.block()
}

// retry goes on after a wait.
func (sub *subscription) retry(time.Time) {
	sub.stalled = false
	sub.push()
}

// fail ends the subscription with an error. Behind lost records the peer begins another one.
func (sub *subscription) fail(e *wire.Error) {
	sub.b.s.loop.srv.metrics.failed(wire.OpDeliver, e.Code)
	sub.b.push(wire.OpDeliver, sub.correlation, wire.FlagError, e.Append)
	delete(sub.b.subs, sub.correlation)
	sub.end()
}

// ended reports whether nobody receives any more.
func (sub *subscription) ended() bool { return sub.w == nil || sub.b.s.closed }

// over reports whether end was called.
func (sub *subscription) over() bool { return sub.w == nil }

// end takes the subscription from its watch.
func (sub *subscription) end() {
	w := sub.w
	if w == nil {
		return
	}
	sub.w = nil
	w.subs.left()
	sub.b.s.countSub(-sub.bytes)
	sub.b.s.loop.srv.metrics.subscriptions.Add(-1)
}

// maxCredit bounds what credit adds up to, so that it cannot overflow.
const maxCredit = 1 << 40

func (b *binary) credit(f wire.Frame, _ time.Time) error {
	var m wire.Credit
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	sub, ok := b.subs[m.Subscription]
	if !ok {
		return nil // it ended while the credit was on its way
	}
	sub.credit = min(sub.credit+int64(m.Bytes), maxCredit)
	sub.push()
	return nil
}

func (b *binary) unsubscribe(f wire.Frame, _ time.Time) error {
	var m wire.Unsubscribe
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	sub, ok := b.subs[m.Subscription]
	if !ok {
		return wire.Errorf(wire.CodeSubscriptionNotFound, "subscription %d does not exist on this connection", m.Subscription)
	}
	delete(b.subs, m.Subscription)
	sub.end()
	b.reply(f, nil)
	return nil
}
