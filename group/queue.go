package group

import "time"

// Queue hands every message of the partition to one worker at a time. It knows the messages that
// are neither done nor fresh, as runs; all others below next are done.
//
// Invariants: floor <= settled <= next. Every run lies within [floor, next). Every offset at or
// above settled is as if no command had named it.
type Queue struct {
	name    string
	policy  Policy
	runs    tree
	next    uint64 // the first fresh offset
	settled uint64 // durable: the end of what commands have named
	acked   uint64
	causes  map[uint64]*cause // by the tag of dead runs; nil before the first
	causeID uint64            // the last one given out
	order   *order            // nil unless the queue keeps the order of keys
}

func newQueue(name string, start uint64, p Policy) *Queue {
	q := &Queue{name: name, policy: p, next: start, settled: start}
	q.keepOrder(p.OrderByKey)
	return q
}

// Lease is a range of messages that a worker may work on. Attempt counts their deliveries from 1,
// and names the lease when the worker settles.
type Lease struct {
	First   uint64
	Count   uint32
	Attempt uint32
}

// Stats are the figures of a queue.
type Stats struct {
	Floor        uint64 // all below is done
	Next         uint64 // nothing from here on was ever leased
	InFlight     int    // leased
	Redelivering int    // delivered before, or skipped by a restart, and waiting to be leased again
	Parked       int    // waiting for an earlier message of their key
	Dead         int    // dead letters that the broker has not buried
	Acked        uint64 // messages acknowledged since the process started
}

// Policy returns the queue's policy, with the defaults filled in.
func (q *Queue) Policy() Policy { return q.policy }

// Stats returns the figures of the moment. A lease past its deadline counts as in flight until
// PlanExpire and Apply took it back.
func (q *Queue) Stats() Stats {
	sum := q.runs.summary()
	return Stats{
		Floor:        q.floor(),
		Next:         q.next,
		InFlight:     int(sum.leased),
		Redelivering: int(sum.waiting - sum.parked),
		Parked:       int(sum.parked),
		Dead:         int(sum.dead),
		Acked:        q.acked,
	}
}

// Backlog returns how many messages below limit are not done, those in flight included.
func (q *Queue) Backlog(limit uint64) uint64 {
	if limit >= q.next {
		sum := q.runs.summary()
		return sum.messages() + limit - q.next
	}
	var n uint64
	for r := range q.runs.each {
		if r.first >= limit {
			break
		}
		n += min(limit, r.end()) - r.first
	}
	return n
}

// tracked returns how many messages are neither done nor fresh.
func (q *Queue) tracked() uint64 {
	sum := q.runs.summary()
	return sum.messages()
}

func (q *Queue) floor() uint64 {
	if r, ok := q.runs.find(0, probe{}); ok {
		return r.first
	}
	return q.next
}

// Lease appends to dst leases for at most most messages below limit, the end of what consumers may
// see, and returns the extended slice. Messages that are due for redelivery come first, in the
// order of their offsets, then fresh ones. Neighbours of the same attempt are one Lease. One call
// leases at most MaxInFlight messages. A lease of 0 is the policy's; any is at most MaxLease. owner
// is who loses the leases in ReleaseOwner.
//
// A queue with order by key leases a message only when all earlier ones of its key are done, and
// only as far as it knows the keys: call WantsKeys and LearnKeys before, and again while it leased
// less than it might.
func (q *Queue) Lease(
	dst []Lease, most int, limit uint64, lease time.Duration, owner uint64, now time.Time,
) []Lease {
	sum := q.runs.summary()
	if most <= 0 || sum.dead >= MaxDead {
		return dst
	}
	g := grant{leases: dst, old: len(dst), left: min(uint64(most), MaxInFlight), owner: owner}
	g.deadline = after(now, wholeMs(lease, q.policy.Lease, MaxLease))
	if o := q.order; o != nil {
		q.leaseDue(&g, min(limit, o.known), ms(now))
		q.leaseFreshOrdered(&g, limit)
		return g.leases
	}
	q.leaseDue(&g, limit, ms(now))
	q.leaseFresh(&g, limit)
	return g.leases
}

// grant is one call to Queue.Lease.
type grant struct {
	leases   []Lease
	old      int    // leases that were there before
	left     uint64 // messages that may still be leased
	owner    uint64
	deadline int64
}

// take turns r into a lease and notes it.
func (g *grant) take(r run) run {
	r.deadline, r.tag = g.deadline, g.owner
	if r.attempts < 1<<16-1 {
		r.attempts++
	}
	g.left -= r.count
	g.note(r.first, r.count, uint32(r.attempts))
	return r
}

// note appends a lease, or lengthens the one before.
func (g *grant) note(first, count uint64, attempt uint32) {
	if n := len(g.leases); n > g.old {
		l := &g.leases[n-1]
		if l.First+uint64(l.Count) == first && l.Attempt == attempt {
			l.Count += uint32(count)
			return
		}
	}
	g.leases = append(g.leases, Lease{first, uint32(count), attempt})
}

func (q *Queue) leaseDue(g *grant, limit uint64, nowMs int64) {
	for from := uint64(0); g.left > 0; {
		r, ok := q.runs.find(from, probe{want: wantDue, at: nowMs})
		if !ok || r.first >= limit {
			return
		}
		part := r.clip(r.first, min(limit, r.first+min(r.count, g.left)))
		q.set(r, g.take(part))
		from = part.end()
	}
}

func (q *Queue) leaseFresh(g *grant, limit uint64) {
	sum := q.runs.summary()
	if limit <= q.next || sum.messages() >= MaxInFlight {
		return
	}
	count := min(g.left, limit-q.next, MaxInFlight-sum.messages())
	if count == 0 {
		return
	}
	q.runs.append(g.take(run{first: q.next, count: count}))
	q.next += count
}

// set puts part in the place of the same offsets of r, a run of the tree.
func (q *Queue) set(r, part run) {
	var with [3]run
	n := 0
	if r.first < part.first {
		with[n] = r.clip(r.first, part.first)
		n++
	}
	with[n] = part
	n++
	if part.end() < r.end() {
		with[n] = r.clip(part.end(), r.end())
		n++
	}
	q.runs.replace(r.first, with[:n])
}

// remove takes [first, end) out of r, a run of the tree.
func (q *Queue) remove(r run, first, end uint64) {
	if r.isDead() {
		q.release(r.tag, end-first)
	}
	var with [2]run
	n := 0
	if r.first < first {
		with[n] = r.clip(r.first, first)
		n++
	}
	if end < r.end() {
		with[n] = r.clip(end, r.end())
		n++
	}
	q.runs.replace(r.first, with[:n])
	q.leaveAll(first, end)
}

// ReleaseOwner takes back all leases of owner, whose connection is gone. Their messages can be
// leased again at once. The delivery counts as an attempt as long as the process lives; a restart
// forgets it, because nothing is logged. So a message that kills its workers is stopped: at the
// last attempt the lease is not taken back but expires now, and PlanExpire makes the message a dead
// letter.
func (q *Queue) ReleaseOwner(owner uint64, now time.Time) {
	for from := uint64(0); ; {
		r, ok := q.runs.find(from, probe{want: wantOwned, owner: owner})
		if !ok {
			return
		}
		from = r.end()
		back := r
		back.deadline, back.tag = 0, 0
		if int(r.attempts) >= q.policy.MaxDeliveries {
			back.deadline = max(1, min(r.deadline, ms(now)))
		}
		q.set(r, back)
		q.park(r.first, r.end())
	}
}

// Expiry returns the earliest deadline of all leases, the next moment at which PlanExpire has
// something to do. It is false when nothing is leased.
func (q *Queue) Expiry() (time.Time, bool) { return moment(q.runs.summary().deadline) }

// Deadline returns the next moment at which PlanExpire or a redelivery has something to do, and
// false when there is none. A moment in the past is one whose messages nobody has leased yet: a
// caller without a waiting worker needs no timer for them, only one for Expiry.
func (q *Queue) Deadline() (time.Time, bool) {
	sum := q.runs.summary()
	return moment(min(sum.deadline, sum.due))
}

func moment(at int64) (time.Time, bool) {
	if at == never {
		return time.Time{}, false
	}
	return time.UnixMilli(at), true
}

// truncate moves the queue up to first and returns how many messages were lost.
func (q *Queue) truncate(first uint64) uint64 {
	var lost uint64
	for {
		r, ok := q.runs.find(0, probe{})
		if !ok || r.first >= first {
			break
		}
		end := min(first, r.end())
		if !r.leased() {
			lost += end - r.first
		}
		q.remove(r, r.first, end)
	}
	if first > q.next {
		lost += first - q.next
		q.next = first
		if q.order != nil {
			q.order.known = first
			q.order.drop()
		}
	}
	q.settled = max(q.settled, first)
	return lost
}
