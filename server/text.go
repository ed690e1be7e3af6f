package server

import (
	"math"
	"time"

	"github.com/rafka-mq/rafka/partition"
)

// text is the text protocol of one session: the NATS client protocol, and verbs for people.
type text struct {
	s *session

	verbose      bool // answer +OK
	pedantic     bool // check published subjects
	echo         bool // deliver what this session published to its own subscriptions
	headers      bool // the peer understands HMSG
	noResponders bool // tell the peer when nobody got its request
	connected    bool // CONNECT was received: the peer is a program
	person       bool // a verb was used that no NATS client knows
	async        bool // the peer takes INFO at any time
	informed     bool // it was told what its login led to

	part []byte // the start of a command whose rest has not arrived
	need int    // how long part must be to go on; 0 for a whole line

	// While paused, a command waits for something and later ones for their turn. While yielding, later
	// ones wait until others had their turn.
	paused    bool
	yielding  bool
	running   bool   // run is on the stack
	backlog   []byte // what arrived meanwhile
	done      int    // bytes of backlog that were run
	allowance int    // what may still be run before a look at who else waits
	budget    int    // what may be run after that in this turn

	subs     sids
	subBytes int // memory of subs
	held     int // bytes of publishes whose acknowledgement waits
	leases   map[textLease]uint32
	queues   map[leaseKey]struct{}           // queues this connection took messages from
	recent   map[*partition.Partition]uint64 // a person's publishes: the last index
	pings    int                             // PINGs since the peer sent something
}

// Limits of text sessions.
const (
	// maxBacklog bounds what a session sends while a command of it waits. Where reading can be paused
	// that is not reached: from fullBacklog on, nothing is read.
	maxBacklog  = 8 << 20
	fullBacklog = 256 << 10
	// turnWork is how much of what a session has sent is run in a turn at most, in about nanoseconds: a
	// few hundred subscriptions, or thousands of small messages. A read full of larger ones stays below
	// it, and is not copied to wait. When somebody else waits the turn ends after sliceWork: a look at
	// the sockets takes a hundredth of that.
	turnWork      = 400_000
	sliceWork     = 25_000
	commandWork   = 100
	deliverWork   = 100
	subscribeWork = 1500
	bytesPerWork  = 16 // of commands and payloads
	// restBytes is how much of a read may be left at the end of a slice and run nevertheless, for another
	// slice at most: to put it off costs more.
	restBytes = 1024
	// maxSubBytes bounds the memory of a session's live subscriptions: about a million of them.
	maxSubBytes = 256 << 20
	// keepBuffer is the largest buffer that an idle session keeps.
	keepBuffer = 64 << 10
)

// newText returns a session as NATS begins it: as if for a person.
func newText(s *session) *text {
	s.loop.srv.metrics.textSessions.Add(1)
	return &text{s: s, verbose: true, pedantic: true, echo: true}
}

// maxArgs bounds the arguments of a command.
func (t *text) maxArgs() int { return t.s.loop.srv.opts.MaxControlLine }

// maxLine bounds a command without its payload: what is allowed for the arguments, and room for the
// verb.
func (t *text) maxLine() int { return t.maxArgs() + maxVerb }

// isTextStart reports whether a connection that begins with c is text: a verb, or a person who pressed
// return first.
func isTextStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '-' || c == '\n' || isBlank(c)
}

// feed runs the commands of in. A command whose rest is missing is kept.
func (t *text) feed(in []byte, now time.Time) {
	t.pings = 0
	if !t.paused && len(t.backlog) == 0 {
		t.allow(0)
		in = in[t.run(in, now):]
	}
	if len(in) == 0 && len(t.backlog) == 0 {
		t.s.setFull(false)
	}
	if len(in) == 0 || t.s.closed {
		return
	}
	limit := maxBacklog
	if !t.s.admitted {
		limit = maxStranger
	}
	waits := len(t.backlog) - t.done + len(in)
	if waits > limit {
		t.refuse("too much was sent while a command waits")
		return
	}
	if t.backlog == nil {
		t.backlog = t.s.loop.takeSpare(len(in))
	}
	t.backlog = append(t.backlog, in...)
	if !t.paused || waits > fullBacklog {
		t.s.setFull(true)
	}
	if !t.paused {
		t.yield()
	}
}

// allow begins a turn, in which a part of what waits may be run: all of it, when reading cannot be
// paused meanwhile.
func (t *text) allow(waits int) {
	t.allowance, t.budget = sliceWork, turnWork+waits/2-sliceWork
	if t.s.loop.pauseReading == nil {
		t.allowance = math.MaxInt
	}
}

// goesOn reports whether one more command may be run in this turn, of rest bytes that are left.
func (t *text) goesOn(rest int) bool {
	if t.allowance > 0 || rest <= restBytes && t.allowance > -sliceWork {
		return true
	}
	if t.budget <= 0 {
		return false
	}
	if others := t.s.loop.awaited; others != nil {
		if !t.s.full {
			t.s.setFull(true) // what this session sent meanwhile is nobody else's
		}
		if others() {
			return false
		}
	}
	t.budget -= sliceWork
	t.allowance += sliceWork
	return t.allowance > 0
}

// yield lets others have their turn before the backlog goes on.
func (t *text) yield() {
	if !t.yielding {
		t.yielding = true
		t.s.loop.later(jobFunc(t.goOn))
	}
}

// goOn runs more of the backlog, unless a command waits or the peer is held back.
func (t *text) goOn(now time.Time) {
	defer t.s.contain()
	t.yielding = false
	if t.s.closed || t.paused || t.s.flow.held {
		return
	}
	t.s.loop.reading = t.s
	waits := len(t.backlog) - t.done
	t.allow(waits)
	t.done += t.run(t.backlog[t.done:], now)
	switch {
	case t.done == len(t.backlog):
		t.s.loop.keepSpare(t.backlog)
		t.backlog, t.done = nil, 0
		t.s.setFull(false)
	case !t.paused:
		t.yield()
	}
}

// run runs commands until one pauses the session, and returns how many bytes it took.
func (t *text) run(in []byte, now time.Time) (used int) {
	t.running = true
	for used < len(in) && !t.paused && !t.s.closed && t.goesOn(len(in)-used) {
		if len(t.part) > 0 {
			n := t.complete(in[used:], now)
			t.allowance -= commandWork + n/bytesPerWork
			used += n
			continue
		}
		n, need := t.command(in[used:], now)
		if n == 0 {
			t.need = need
			t.reserve()
			t.part = append(t.part, in[used:]...)
			n = len(in) - used
		}
		t.allowance -= commandWork + n/bytesPerWork
		used += n
	}
	t.running = false
	return used
}

// complete moves bytes to the command that is kept, and runs it when it is whole.
func (t *text) complete(in []byte, now time.Time) (used int) {
	used = len(in)
	ready := false
	if t.need > 0 {
		used = min(t.need-len(t.part), len(in))
		ready = used == t.need-len(t.part)
	} else if end := lineEnd(in); end >= 0 {
		used, ready = end+1, true
	}
	t.part = append(t.part, in[:used]...)
	if !ready && (t.need > 0 || len(t.part) <= t.maxLine()) {
		if t.need == 0 {
			t.foresee(t.part)
		}
		return used
	}
	part := t.part
	n, need := t.command(part, now)
	switch {
	case n == 0:
		t.need = need
		t.reserve()
	case cap(part) > keepBuffer:
		t.s.loop.keepLarge(part)
		t.part, t.need = nil, 0
	default:
		t.part, t.need = part[:0], 0
	}
	return used
}

// reserve makes room for all of a large command: growing step by step would copy it as often.
func (t *text) reserve() {
	if t.need > keepBuffer && cap(t.part) < t.need {
		t.part = append(t.s.loop.takeLarge(t.need), t.part...)
	}
}

// pause lets no further command run until resume: replies keep the order of the commands.
func (t *text) pause() { t.paused = true }

// resume runs what arrived during the pause.
func (t *text) resume(now time.Time) {
	t.paused = false
	if !t.running {
		t.goOn(now)
	}
}

// waiting reports whether a program owes the rest of a command. A person may take the time to type a
// payload.
func (t *text) waiting() bool { return len(t.part) > 0 && (t.connected || t.need == 0) }

// quiet asks a peer that has sent nothing for a while whether it is there, and gives it up when it
// did not answer often enough.
func (t *text) quiet(idle time.Duration) (over bool) {
	o := &t.s.loop.srv.opts
	switch {
	case idle <= o.PingInterval*time.Duration(t.pings+1):
	case t.pings >= o.PingMax:
		t.fail("Stale Connection")
		return true
	default:
		t.pings++
		t.s.write("PING\r\n")
	}
	return false
}

// drain tells the peer that the broker is going away.
func (t *text) drain(time.Duration, time.Time) {
	switch {
	case t.person:
		t.fail("the broker is shutting down")
	case t.async:
		out := t.s.buffer()
		out.B = t.s.loop.srv.appendInfo(out.B, t.s, t.s.t)
	}
}

// forgetAtOnce is how many subscriptions a loop takes out without looking at anything else.
const forgetAtOnce = 1000

// forget takes out the subscriptions of a session that is gone, some in this turn and the rest in later
// ones.
func (l *loop) forget(subs []*liveSub) {
	for len(subs) > 0 {
		some := subs[:min(len(subs), forgetAtOnce)]
		for _, sub := range some {
			l.srv.live.Remove(sub)
		}
		l.srv.metrics.subscriptions.Add(-int64(len(some)))
		subs = subs[len(some):]
		if len(subs) > 0 && l.later(jobFunc(func(time.Time) { l.forget(subs) })) {
			return
		}
	}
}

// unblock has nothing to do: a text session's output is bounded by closing it.
func (t *text) unblock(time.Time) bool { return false }

// ended gives back what the connection held.
func (t *text) ended(now time.Time) {
	t.s.loop.forget(t.subs.all())
	t.subs = sids{}
	for key := range t.queues {
		key.p.ReturnLeases(key.group, t.s.id, now)
	}
	t.s.loop.srv.metrics.textSessions.Add(-1)
}
