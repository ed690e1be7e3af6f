package group

import "math"

// never is the due time of messages that are not delivered again, and the earliest deadline of no leases.
const never = math.MaxInt64

// run is a range of neighbouring messages that are neither done nor fresh and have the same state, which is
// one of three:
//
//	leased   deadline != 0, tag is the owner
//	waiting  deadline == 0, deliverable from due on; with tag == parked only after its key's earlier messages
//	dead     due == never, tag is the id of the cause
//
// fails, since, due and, for dead runs, tag are durable: only commands change them, a lease does not.
// attempts, deadline and the owner are soft. A run takes 48 bytes; a million of them must stay under 64 MB.
type run struct {
	first    uint64
	count    uint64
	deadline int64 // end of the lease in ms; 0 without one
	due      int64 // in ms; 0 for a message that never failed
	tag      uint64
	since    uint32 // first failure in seconds since 1970; 0 when there was none
	attempts uint16 // deliveries so far, at least fails
	fails    uint16 // number of the attempt that failed last; 0 when none did
}

func (r *run) end() uint64   { return r.first + r.count }
func (r *run) leased() bool  { return r.deadline != 0 }
func (r *run) isDead() bool  { return r.due == never }
func (r *run) waiting() bool { return r.deadline == 0 && r.due != never }

// ownerBit maps an owner to a bit of summary.owners, by the top six bits of a multiplication. It must be
// cheap, because every change of a leaf computes it for all its leases.
func ownerBit(o uint64) uint64 { return 1 << (o * 0x9e3779b97f4a7c15 >> 58) }

// clip returns the part of r within [first, end), which must not be empty.
func (r run) clip(first, end uint64) run {
	first, end = max(first, r.first), min(end, r.end())
	r.first, r.count = first, end-first
	return r
}

// alike reports whether next starts where r ends and differs in nothing else.
func (r *run) alike(next *run) bool {
	return r.end() == next.first && r.deadline == next.deadline && r.due == next.due &&
		r.tag == next.tag && r.since == next.since && r.attempts == next.attempts &&
		r.fails == next.fails
}

// summary is what a node of the tree knows about all runs below it, so that a search can skip it. The counts
// are messages.
type summary struct {
	deadline int64  // earliest deadline of the leases, never when there is none
	due      int64  // earliest due time of the messages that wait and are not parked, never when there is none
	owners   uint64 // the ownerBit of every owner of a lease
	leased   uint64
	waiting  uint64 // with the parked ones
	parked   uint64
	dead     uint64
}

func emptySummary() summary { return summary{deadline: never, due: never} }

func (s *summary) add(r *run) {
	switch {
	case r.leased():
		s.deadline = min(s.deadline, r.deadline)
		s.owners |= ownerBit(r.tag)
		s.leased += r.count
	case r.isDead():
		s.dead += r.count
	case r.tag == parked:
		s.waiting += r.count
		s.parked += r.count
	default:
		s.due = min(s.due, r.due)
		s.waiting += r.count
	}
}

func (s *summary) merge(o *summary) {
	s.deadline = min(s.deadline, o.deadline)
	s.due = min(s.due, o.due)
	s.owners |= o.owners
	s.leased += o.leased
	s.waiting += o.waiting
	s.parked += o.parked
	s.dead += o.dead
}

func (s *summary) messages() uint64 { return s.leased + s.waiting + s.dead }

// probe says which runs a search looks for. The zero value looks for all.
type probe struct {
	want  uint8
	at    int64  // for wantDue and wantExpired
	owner uint64 // for wantOwned
}

const (
	wantAny     uint8 = iota
	wantDue           // waiting, not parked, due at or before at
	wantExpired       // leased, deadline at or before at
	wantOwned         // leased by owner
	wantDead
	wantParked
)

// may reports whether a node with this summary can hold a run that p looks for.
func (p *probe) may(s *summary) bool {
	switch p.want {
	case wantDue:
		return s.due <= p.at
	case wantExpired:
		return s.deadline <= p.at
	case wantOwned:
		return s.owners&ownerBit(p.owner) != 0
	case wantDead:
		return s.dead != 0
	case wantParked:
		return s.parked != 0
	}
	return true
}

// is reports whether p looks for r.
func (p *probe) is(r *run) bool {
	switch p.want {
	case wantDue:
		return r.waiting() && r.due <= p.at && r.tag != parked
	case wantExpired:
		return r.leased() && r.deadline <= p.at
	case wantOwned:
		return r.leased() && r.tag == p.owner
	case wantDead:
		return r.isDead()
	case wantParked:
		return r.isParked()
	}
	return true
}
