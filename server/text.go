package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
)

// text is the text protocol of one session: the NATS client protocol, and verbs for people.
type text struct {
	s *session

	verbose      bool // answer commands with +OK
	pedantic     bool // check published subjects
	echo         bool // deliver what this session published to its own subscriptions
	headers      bool // the peer understands HMSG
	noResponders bool // tell the peer when nobody got its request
	connected    bool // CONNECT was received: the peer is a program
	person       bool // a verb for people was used
	async        bool // the peer accepts INFO at any time
	informed     bool // it was told the outcome of its login
	dropping     bool // all subscriptions are being removed: none of them gets a message

	part []byte // the start of a command whose rest has not arrived
	need int    // size of part at which the command can be tried again; 0 for a complete line

	textTurn

	subs   sids
	held   int // bytes of publishes whose acknowledgement waits
	leases map[textLease]uint32
	queues map[leaseKey]struct{}           // queues that this connection has leased from
	recent map[*partition.Partition]uint64 // index of a person's last publish to a partition
}

// Limits of text sessions.
const (
	// keepBuffer is the largest buffer that an idle session keeps.
	keepBuffer = 64 << 10
	// maxLarge bounds the memory that a loop keeps for a large command. A message of the default size limit fits.
	maxLarge = 1<<20 + 64<<10
)

// newText returns a text session with the defaults of NATS before a CONNECT.
func newText(s *session) *text {
	s.loop.srv.metrics.textSessions.Add(1)
	return &text{s: s, verbose: true, pedantic: true, echo: true}
}

// maxArgs bounds the arguments of a command.
func (t *text) maxArgs() int { return t.s.loop.srv.opts.MaxControlLine }

// maxLine bounds a command without its payload: maxArgs and room for the verb.
func (t *text) maxLine() int { return t.maxArgs() + maxVerb }

// isTextStart reports whether a connection whose first byte is c is text: a verb, a blank, or a person who pressed return
// first.
func isTextStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '-' || c == '\n' || isBlank(c)
}

// run runs commands until one pauses the session or the turn is over, and returns how many bytes it processed. It keeps the
// start of a command whose rest is missing.
func (t *text) run(in []byte, now time.Time) (used int) {
	t.allow(t.s.backlog.waits())
	for used < len(in) && !t.s.backlog.paused && !t.s.closed && t.goesOn(len(in)-used) {
		if len(t.part) > 0 {
			n := t.complete(in[used:], now)
			t.allowance -= commandWork + n/bytesPerWork
			used += n
			continue
		}
		n, need := t.command(in[used:], now)
		if n == 0 {
			t.need = need
			n = len(in) - used
			t.makeRoom(n)
			t.part = append(t.part, in[used:]...)
		}
		t.allowance -= commandWork + n/bytesPerWork
		used += n
	}
	return used
}

// complete adds input to the command in part, and runs it when it is complete.
func (t *text) complete(in []byte, now time.Time) (used int) {
	used = len(in)
	ready := false
	if t.need > 0 {
		used = min(t.need-len(t.part), len(in))
		ready = used == t.need-len(t.part)
	} else if end := lineEnd(in); end >= 0 {
		used, ready = end+1, true
	}
	t.makeRoom(len(t.part) + used)
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
	case cap(part) > keepBuffer:
		t.s.loop.large.keep(part, maxLarge)
		t.part, t.need = nil, 0
		t.s.countPart(0)
	default:
		t.part, t.need = part[:0], 0
	}
	return used
}

// makeRoom makes room in part for size bytes of a large command: append would grow it in smaller steps, and copy it more often.
func (t *text) makeRoom(size int) {
	if t.need <= keepBuffer || size <= cap(t.part) {
		return
	}
	t.part = append(t.s.loop.large.take(roomFor(size, t.need)), t.part...)
	t.s.countPart(cap(t.part))
}

// flooded refuses more input.
func (t *text) flooded(int) { t.refuse("too much was sent while a command waits") }

// waiting reports whether a program has sent only the start of a command. People may take their time to type.
func (t *text) waiting() bool { return len(t.part) > 0 && (t.connected || t.need == 0) }

// quiet sends PING to a peer that has sent nothing for PingInterval. It reports whether PingMax of them were not answered.
func (t *text) quiet(idle time.Duration) (over bool) {
	o := &t.s.loop.srv.opts
	switch {
	case idle <= o.PingInterval*time.Duration(t.s.pings+1):
	case int(t.s.pings) >= o.PingMax:
		t.fail("Stale Connection")
		return true
	default:
		t.s.pings++
		t.s.write("PING\r\n")
	}
	return false
}

// drain tells a program that the broker is going away. It tells people nothing yet: they would take an error for the answer to
// the command that they wait for, and that command's answer for the next one's. See takeLeave.
func (t *text) drain(time.Duration) {
	if t.async && !t.person {
		out := t.s.buffer()
		out.B = t.s.loop.srv.appendInfo(out.B, t.s, t.s.t)
	}
}

// takeLeave tells a person why the connection ends. Nothing may be written after it.
func (t *text) takeLeave() {
	if t.person && !t.s.closed {
		t.fail("the broker is shutting down")
	}
}

// forgetAtOnce is how many subscriptions forget removes in one turn.
const forgetAtOnce = 1000

// forget removes the subscriptions of a session that is gone or starts again, in as many turns as necessary, and then
// calls then.
func (l *loop) forget(subs []*liveSub, then func(time.Time), now time.Time) {
	for len(subs) > 0 {
		some := subs[:min(len(subs), forgetAtOnce)]
		for _, sub := range some {
			l.srv.live.Remove(sub)
		}
		l.srv.metrics.subscriptions.Add(-int64(len(some)))
		subs = subs[len(some):]
		if len(subs) > 0 && l.later(jobFunc(func(now time.Time) { l.forget(subs, then, now) })) {
			return
		}
	}
	then(now)
}

// unblock has nothing to do: a text session's output is bounded by closing it.
func (t *text) unblock(time.Time) bool { return false }

// ended releases what the connection held.
func (t *text) ended(now time.Time) {
	t.s.loop.forget(t.subs.all(), func(time.Time) {}, now)
	t.subs = sids{}
	for key := range t.queues {
		key.p.ReturnLeases(key.group, t.s.id, now)
	}
	if t.queues != nil {
		t.s.loop.srv.metrics.workers.Add(-1)
	}
	t.s.loop.srv.metrics.textSessions.Add(-1)
}
