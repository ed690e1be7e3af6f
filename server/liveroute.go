package server

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// message is one live message. Its slices are views that are valid until the message was routed.
type message struct {
	wire.Live
	later bool     // it was scheduled, so nobody gets it now
	from  receiver // session whose own subscriptions do not get the message; nil for none
	asker receiver // session that is told when nobody gets the message; nil for none
	asked *asked   // set with an asker when the message goes to other loops
}

// router is what a loop needs to route live messages.
type router struct {
	routed    message               // the message that is being routed, here to avoid an allocation for each
	message   uint64                // number of the last one that was routed
	matches   subject.Matches[live] // of the one that is being routed
	header    []byte                // header of a record that is being routed
	handoffs  map[*loop]*handoff    // of this turn
	load      *load                 // with their messages; nil when there are none
	refused   []*handoff            // that their loops did not take, because they have ended
	interests map[*partition.Topic]interest
}

// asked is a request that is on its way to subscriptions of other loops.
type asked struct {
	by   receiver
	open atomic.Int64 // subscriptions that took it or still may; at 0 the asker is told
}

// newMessage returns a message without headers.
func newMessage(subject, payload []byte) *message {
	return &message{Live: wire.Live{Subject: subject, Payload: payload}}
}

// nextRouted returns the loop's own message for the caller to fill in. That is faster than filling in another struct and
// copying it, because such a copy waits for the stores.
func (l *loop) nextRouted() *message {
	m := &l.routed
	m.later, m.from, m.asker, m.asked = false, nil, nil, nil
	return m
}

// route sends a message to every live subscription that matches, and to one member of each queue group. Subscriptions of
// other loops get it at the end of the turn, in order. It returns how many subscriptions get it.
func (l *loop) route(m *message) (receivers int) {
	if m.later || l.srv.live.Len() == 0 {
		return 0
	}
	l.message++
	l.matches.Reset()
	l.srv.live.Match(&l.matches, m.Subject)
	for _, sub := range l.matches.Subs {
		if l.send(sub, m) {
			receivers++
		}
	}
	for i := range l.matches.Groups {
		if l.sendGroup(&l.matches.Groups[i], m) {
			receivers++
		}
	}
	if m.asked != nil { // before the handoffs are posted
		m.asked.open.Add(int64(receivers))
	}
	if l.late {
		l.late = false
		l.owed += len(m.Subject) + len(m.Header) + len(m.Payload)
	}
	return receivers
}

// send sends a message to a subscription on any loop. It reports whether the subscription took it.
func (l *loop) send(sub *liveSub, m *message) bool {
	to := sub.Value.to
	if to == m.from || sub.Gone() {
		return false
	}
	s := to.at()
	home := s.loop
	if s.crowded.Load() {
		l.late, l.blocker = true, s
	}
	if home == l {
		return to.deliver(sub, m)
	}
	if l.overwhelmed(sub) {
		return false
	}
	l.place(m)
	l.handoffTo(home).add(sub, m)
	return true
}

// sendGroup sends a message to a random member of a queue group, or to another one when that does not take it.
func (l *loop) sendGroup(g *subject.Group[live], m *message) bool {
	n := g.Len()
	if n == 0 {
		return false
	}
	for i, first := 0, rand.IntN(n); i < n; i++ {
		if l.send(g.At((first+i)%n), m) {
			return true
		}
	}
	return false
}

// handoff carries the messages of one turn of a loop to the subscriptions of another loop, as a job of that loop.
type handoff struct {
	to      *loop
	load    *load // where they are
	size    int   // of them all
	parcels []parcel
	subs    []*liveSub
}

// load has the messages of one turn of a loop that go to other loops. A message is copied into it once, whatever the
// number of loops and subscriptions. It does not change once its handoffs are posted.
type load struct {
	bytes   []byte
	message uint64       // number of the last message
	at      int          // where that begins
	users   atomic.Int32 // handoffs that were not delivered yet
}

// parcel is one message in a handoff.
type parcel struct {
	message                uint64 // number of the message in its turn
	at                     int    // where it begins in the load
	subject, reply, header int    // sizes of the parts, which stand there in this order
	size                   int    // of all parts and the payload
	subs                   int    // how many of the next subscriptions in subs get it
	from                   receiver
	asked                  *asked
}

// handoffs and loads are pools. loop.send takes from them, and the other loops put back what they have delivered.
var (
	handoffs = sync.Pool{New: func() any { return new(handoff) }}
	loads    = sync.Pool{New: func() any { return new(load) }}
)

// maxHandoff is the size of the messages at which the handoffs are sent before the end of the turn.
const maxHandoff = 1 << 20

// place copies the message that is being routed to the load, unless it is there.
func (l *loop) place(m *message) {
	if l.load != nil && l.load.message == l.message {
		return
	}
	if l.load != nil && len(l.load.bytes) >= maxHandoff {
		l.hand()
	}
	if l.load == nil {
		l.load = loads.Get().(*load)
	}
	b := l.load
	b.message, b.at = l.message, len(b.bytes)
	b.bytes = append(b.bytes, m.Subject...)
	b.bytes = append(b.bytes, m.Reply...)
	b.bytes = append(b.bytes, m.Header...)
	b.bytes = append(b.bytes, m.Payload...)
}

func (l *loop) handoffTo(to *loop) *handoff {
	h := l.handoffs[to]
	if h == nil {
		if l.handoffs == nil {
			l.handoffs = map[*loop]*handoff{}
		}
		h = handoffs.Get().(*handoff)
		h.to, h.load = to, l.load
		l.handoffs[to] = h
	}
	return h
}

// sendHandoffs posts the messages of this turn for other loops. It runs before the turn's own output is written, so that a
// client that gets a PONG can rely on its earlier messages being on their way.
func (l *loop) sendHandoffs() {
	for len(l.handoffs)+len(l.refused) > 0 {
		l.hand()
		refused := l.refused
		l.refused = nil
		for _, h := range refused {
			h.each(l, func(sub *liveSub, m *message) { l.routeOn(sub, m) })
			h.recycle()
		}
	}
}

// hand posts the handoffs. What a loop refuses that has ended is routed on at the end of the turn.
func (l *loop) hand() {
	if len(l.handoffs) == 0 {
		return
	}
	l.load.users.Store(int32(len(l.handoffs)))
	for to, h := range l.handoffs {
		delete(l.handoffs, to)
		to.mail.Add(int64(h.size))
		if !to.post(h) {
			l.refused = append(l.refused, h)
		}
		if to.mailFull() {
			l.full = to
		}
	}
	l.load = nil
}

// add adds a subscription for the last message in the load.
func (h *handoff) add(sub *liveSub, m *message) {
	h.subs = append(h.subs, sub)
	if n := len(h.parcels); n > 0 && h.parcels[n-1].message == h.load.message {
		h.parcels[n-1].subs++
		return
	}
	if m.asker != nil && m.asked == nil {
		m.asked = &asked{by: m.asker}
	}
	size := len(m.Subject) + len(m.Reply) + len(m.Header) + len(m.Payload)
	h.size += size
	h.parcels = append(h.parcels, parcel{
		message: h.load.message, at: h.load.at, subject: len(m.Subject), reply: len(m.Reply), header: len(m.Header),
		size: size, subs: 1, from: m.from, asked: m.asked,
	})
}

// run delivers on the other loop.
func (h *handoff) run(time.Time) {
	h.each(h.to, func(sub *liveSub, m *message) {
		if !sub.Value.to.deliver(sub, m) {
			h.to.routeOn(sub, m)
		}
	})
	h.recycle()
}

// each calls f on loop l for every message and each of its subscriptions.
func (h *handoff) each(l *loop, f func(sub *liveSub, m *message)) {
	subs := h.subs
	for i := range h.parcels {
		p := &h.parcels[i]
		m := &l.routed
		*m = p.view(h.load.bytes[p.at:])
		for _, sub := range subs[:p.subs] {
			f(sub, m)
		}
		subs = subs[p.subs:]
	}
}

// view returns the parcel's message, which starts at b.
func (p *parcel) view(b []byte) message {
	cut := func(n int) []byte {
		v := b[:n:n]
		b = b[n:]
		return v
	}
	payload := p.size - p.subject - p.reply - p.header
	live := wire.Live{Subject: cut(p.subject), Reply: cut(p.reply), Header: cut(p.header), Payload: cut(payload)}
	m := message{Live: live, from: p.from, asked: p.asked}
	if p.asked != nil {
		m.asker = p.asked.by
	}
	return m
}

// recycle empties the handoff and puts it back in the pool, and the load with its last handoff.
func (h *handoff) recycle() {
	h.to.mail.Add(-int64(h.size))
	if h.load.users.Add(-1) == 0 {
		h.load.recycle()
	}
	clear(h.subs)
	clear(h.parcels)
	*h = handoff{parcels: h.parcels[:0], subs: h.subs[:0]}
	handoffs.Put(h)
}

func (b *load) recycle() {
	if cap(b.bytes) > 2*maxHandoff {
		b.bytes = nil
	}
	b.bytes, b.message, b.at = b.bytes[:0], 0, 0
	loads.Put(b)
}

// routeOn sends a message to another member of the queue group of a subscription that did not take it, because it has ended
// meanwhile. The asker of a request that none of its subscriptions took is told once.
func (l *loop) routeOn(sub *liveSub, m *message) {
	taken := sub.Queue() != "" && l.sendOther(sub.Queue(), m)
	if !taken && m.asked != nil && m.asked.open.Add(-1) == 0 {
		l.tellAsker(m)
	}
}

// sendOther sends a message to a member of a queue group that is still there.
func (l *loop) sendOther(queue string, m *message) (taken bool) {
	l.message++
	l.matches.Reset()
	l.srv.live.Match(&l.matches, m.Subject)
	for i := range l.matches.Groups {
		if g := &l.matches.Groups[i]; g.Queue == queue && l.sendGroup(g, m) {
			return true
		}
	}
	return false
}

// tellAsker tells the session that sent a request from another loop that nobody got it.
func (l *loop) tellAsker(m *message) {
	home := m.asker.at().loop
	if home == l {
		l.noResponder(m)
		return
	}
	unheard := &message{Live: wire.Live{Subject: bytes.Clone(m.Subject), Reply: bytes.Clone(m.Reply)}, asker: m.asker}
	home.post(jobFunc(func(time.Time) { home.noResponder(unheard) }))
}
