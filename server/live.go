package server

import (
	"bytes"
	encbinary "encoding/binary"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// Messages on subjects are live: they go to the subscriptions that exist at that moment. Text and binary sessions share
// one subject space.

// receiver is the side of a session that gets live messages. Its methods, except at, are called on the session's loop.
type receiver interface {
	// at returns the session.
	at() *session
	// deliver sends a message to one of its subscriptions. It reports whether the subscription took it.
	deliver(sub *liveSub, m *message) bool
	// nobody tells the subscription that waits for the reply that nobody got the request.
	nobody(sub *liveSub, m *message)
}

// live is the value of a live subscription in the index.
type live struct {
	to        receiver
	max       uint64 // deliveries after which it ends by itself; 0 for never
	delivered uint64
}

// listenIDBytes is the size of a binary session's note.
const listenIDBytes = 4

// listenID is a binary session's id of a subscription.
func listenID(sub *liveSub) uint32 { return encbinary.LittleEndian.Uint32([]byte(sub.Note())) }

// liveSub is a subscription in the server's index. Its note is the peer's id of it: four bytes of a number, or a text. Only
// the session's loop may use its value, except for the session in it.
type liveSub = subject.Sub[live]

// spillBytes is the size of a session's output at which it goes to the transport before the turn ends.
const spillBytes = 512 << 10

// directBytes is the size of a payload that goes to the transport from where it is. A smaller one is copied to the output
// of the turn, because it costs less than a system call.
const directBytes = 64 << 10

// outputBytes returns about how much of a session's output a message takes.
func (m *message) outputBytes() int {
	const frame = 64
	n := frame + len(m.Subject) + len(m.Reply) + len(m.Header)
	if len(m.Payload) < directBytes {
		n += len(m.Payload)
	}
	return n
}

// mayReceive reports whether one of the user's subscriptions may receive a message. If so, the user may then publish to
// its reply subject.
func (s *session) mayReceive(sub *liveSub, m *message) bool {
	if !s.who.MayReceive(m.Subject, sub.Queue()) || len(s.loop.reviews) > 0 && !s.mayKeep(sub) {
		return false
	}
	if r := s.who.Responses(); r != nil && len(m.Reply) > 0 {
		if s.replies == nil {
			s.replies = &auth.Replies{}
		}
		s.replies.Note(m.Reply, r, s.loop.srv.opts.Now())
	}
	return true
}

// noResponder tells the asker of a message that nobody got it.
func (l *loop) noResponder(m *message) {
	if sub := l.waiting(m.asker, m.Reply); sub != nil {
		m.asker.nobody(sub, m)
	}
}

// listen subscribes a binary session to subjects.
func (b *binary) listen(f wire.Frame, _ time.Time) error {
	var m wire.Listen
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	pattern, queue := []byte(m.Pattern), []byte(m.Queue)
	size := liveBytes(pattern, len(pattern)+len(queue)+listenIDBytes)
	switch _, exists := b.listens[f.Correlation]; {
	case !subject.Valid(pattern) || len(queue) > 0 && !subject.Valid(queue):
		return wire.Errorf(wire.CodeInvalid, "%q in queue group %q is not a subject to subscribe to", pattern, queue)
	case exists:
		return wire.Errorf(wire.CodeInvalid, "subscription %d exists on this connection", f.Correlation)
	case !b.s.who.MaySubscribe(pattern, queue):
		b.s.denied(actionConsume, m.Pattern)
		return wire.Errorf(wire.CodeForbidden, "user %q may not subscribe to %q", b.s.who.Name(), pattern)
	case !b.s.roomForSub(size), len(b.listens) >= b.s.loop.srv.opts.MaxSubscriptions:
		return wire.Errorf(wire.CodeLimit, "this connection has %d live subscriptions, all that it may have now", len(b.listens))
	}
	if b.listens == nil {
		b.listens = map[uint32]*liveSub{}
	}
	b.reply(f, nil) // before the first message
	b.listens[f.Correlation] = b.s.loop.srv.live.Insert(pattern, queue, encbinary.LittleEndian.AppendUint32(nil, f.Correlation), live{to: b})
	b.s.countSub(size)
	b.s.listens++
	b.s.loop.srv.metrics.subscriptions.Add(1)
	return nil
}

func (b *binary) unlisten(f wire.Frame, _ time.Time) error {
	var m wire.Unlisten
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	sub := b.listens[m.Subscription]
	if sub == nil {
		return wire.Errorf(wire.CodeSubscriptionNotFound, "subscription %d does not exist on this connection", m.Subscription)
	}
	sub.Value.max = m.Max
	if sub.Value.delivered >= m.Max {
		b.dropListen(sub)
	}
	b.reply(f, nil)
	return nil
}

func (b *binary) dropListen(sub *liveSub) {
	delete(b.listens, listenID(sub))
	b.s.countSub(-liveBytes(sub.Pattern(), sub.Size()))
	b.s.listens--
	b.s.loop.srv.live.Remove(sub)
	b.s.loop.srv.metrics.subscriptions.Add(-1)
}

// sendLive publishes to a subject.
func (b *binary) sendLive(f wire.Frame, now time.Time) error {
	l := b.s.loop
	m := l.nextRouted()
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.checkLive(&m.Live); err != nil {
		return err
	}
	if f.Flags&wire.FlagNoEcho != 0 {
		m.from = b
	}
	l.turn.sent.add(1, len(m.Payload))
	topic := l.srv.registry.Bound(m.Subject)
	if topic != nil {
		if err := b.storeLive(topic, m, now); err != nil {
			b.s.giveBack(m.Subject)
			if len(m.Reply) == 0 {
				return err
			}
			l.srv.metrics.failed(wire.OpSend, asWireError(err).Code)
			l.route(newMessage(m.Reply, storeFailed(topic.Name(), asWireError(err))))
			return nil
		}
	}
	if answered := l.serveSystem(b, m); topic == nil && !answered && len(m.Reply) > 0 && f.Flags&wire.FlagNoResponders != 0 {
		m.asker = b
	}
	if l.route(m) == 0 && m.asker != nil {
		l.noResponder(m)
	}
	return nil
}

var headerStart, headerEnd = []byte("NATS/1.0"), []byte("\r\n\r\n")

func (b *binary) checkLive(m *wire.Live) error {
	size, limit := len(m.Header)+len(m.Payload), b.s.loop.srv.maxPayload
	switch {
	case !subject.Literal(m.Subject):
		return wire.Errorf(wire.CodeInvalid, "%q is not a subject to publish to", m.Subject)
	case len(m.Reply) > 0 && !subject.Literal(m.Reply):
		return wire.Errorf(wire.CodeInvalid, "%q is not a subject to reply to", m.Reply)
	case size > limit:
		return wire.Errorf(wire.CodeTooLarge, "a message has at most %d bytes, not %d", limit, size)
	case len(m.Header) > 0 && (!bytes.HasPrefix(m.Header, headerStart) || !bytes.HasSuffix(m.Header, headerEnd)):
		return wire.Errorf(wire.CodeInvalid, "the header is no NATS header block")
	case !b.s.mayPublish(m.Subject):
		return wire.Errorf(wire.CodeForbidden, "user %q may not publish to %q", b.s.who.Name(), m.Subject)
	}
	return nil
}

// deliver sends a message to one of the session's subscriptions. It reports whether the subscription took it.
func (b *binary) deliver(sub *liveSub, m *message) bool {
	v := &sub.Value
	if b.s.closed || sub.Gone() || b.s.who != nil && !b.s.mayReceive(sub, m) {
		return false
	}
	v.delivered++
	b.s.loop.turn.passed.add(1, len(m.Payload))
	b.sendMessage(0, listenID(sub), m)
	if v.max > 0 && v.delivered >= v.max {
		b.dropListen(sub)
	}
	if len(b.s.out.B) >= spillBytes {
		b.s.spill(b.s.loop.srv.opts.Now())
	}
	return true
}

func (b *binary) sendMessage(flags wire.Flags, subscription uint32, m *message) {
	out := b.s.room(m.outputBytes())
	dst, at := wire.BeginFrame(out.B, wire.OpMessage, flags, subscription)
	dst = wire.AppendLive(dst, m.Subject, m.Reply, m.Header, nil)
	if len(m.Payload) >= directBytes {
		out.B = wire.EndFrameBefore(dst, at, len(m.Payload))
		b.s.spillWith(m.Payload, nil, b.s.loop.srv.opts.Now())
		return
	}
	out.B = wire.EndFrame(append(dst, m.Payload...), at)
}

// nobody tells a requester that nobody got its request.
func (b *binary) nobody(sub *liveSub, m *message) {
	b.sendMessage(wire.FlagNoResponders, listenID(sub), newMessage(m.Reply, nil))
}

func (b *binary) at() *session { return b.s }
