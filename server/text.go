package server

import (
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

	// While paused, a command waits for something and later ones for their turn.
	paused  bool
	running bool   // run is on the stack
	backlog []byte // what arrived meanwhile
	done    int    // bytes of backlog that were run

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
	// maxBacklog bounds what a session sends while a command of it waits.
	maxBacklog = 8 << 20
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

// maxLine bounds a command without its payload: what is allowed for the arguments, and room for the
// verb.
func (t *text) maxLine() int { return t.s.loop.srv.opts.MaxControlLine + maxVerb }

func isTextStart(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// feed runs the commands of in. A command whose rest is missing is kept.
func (t *text) feed(in []byte, now time.Time) {
	t.pings = 0
	if !t.paused {
		in = in[t.run(in, now):]
	}
	if len(in) == 0 || t.s.closed {
		return
	}
	limit := maxBacklog
	if !t.s.admitted {
		limit = maxStranger
	}
	if len(t.backlog)-t.done+len(in) > limit {
		t.refuse("too much was sent while a command waits")
		return
	}
	t.backlog = append(t.backlog, in...)
}

// run runs commands until one pauses the session, and returns how many bytes it took.
func (t *text) run(in []byte, now time.Time) (used int) {
	t.running = true
	for used < len(in) && !t.paused && !t.s.closed {
		if len(t.part) > 0 {
			used += t.complete(in[used:], now)
			continue
		}
		n, need := t.command(in[used:], now)
		if n == 0 {
			t.part, t.need = append(t.part, in[used:]...), need
			n = len(in) - used
		}
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
	case cap(part) > keepBuffer:
		t.part, t.need = nil, 0
	default:
		t.part, t.need = part[:0], 0
	}
	return used
}

// pause lets no further command run until resume: replies keep the order of the commands.
func (t *text) pause() { t.paused = true }

// resume runs what arrived during the pause.
func (t *text) resume(now time.Time) {
	t.paused = false
	if t.running || t.s.closed {
		return
	}
	t.done += t.run(t.backlog[t.done:], now)
	if t.done == len(t.backlog) {
		t.backlog, t.done = nil, 0
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

// unblock has nothing to do: a text session's output is bounded by closing it.
func (t *text) unblock(time.Time) bool { return false }

// ended gives back what the connection held.
func (t *text) ended(now time.Time) {
	for _, sub := range t.subs.all() {
		t.s.loop.srv.live.Remove(sub)
	}
	t.s.loop.srv.metrics.subscriptions.Add(-int64(t.subs.len()))
	t.subs = sids{}
	for key := range t.queues {
		key.p.ReturnLeases(key.group, t.s.id, now)
	}
	t.s.loop.srv.metrics.textSessions.Add(-1)
}
