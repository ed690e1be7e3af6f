package group

import "time"

// Queue hands every message of the partition to one worker at a time. It tracks the messages that are
// neither done nor fresh, as runs. Messages from next on are fresh; all others are done.
//
// Invariants: floor <= settled <= next. Every run lies within [floor, next). No command has named an
// offset at or above settled.
type Queue struct {
	name    string
	policy  Policy
	runs    tree
	next    uint64            // the first fresh offset
	settled uint64            // durable: behind the highest offset that a command has named
	acked   uint64            // messages acknowledged or discarded since the process started
	causes  map[uint64]*cause // by the tag of dead runs; nil before the first
	causeID uint64            // the last id of a cause
	reasons uint64            // bytes of the reasons in causes
	order   *order            // nil unless the queue keeps the order of keys
	total   *totals           // State.total
}

func newQueue(name string, start uint64, p Policy, total *totals) *Queue {
	q := &Queue{name: name, policy: p, next: start, settled: start, total: total}
	q.keepOrder(p.OrderByKey)
	return q
}

// Lease is a range of messages leased to a worker. Attempt is the number of their deliveries, this one
// included. It identifies the lease when the worker settles.
type Lease struct {
	First   uint64
	Count   uint32
	Attempt uint32
}

// Stats are the figures of a queue.
type Stats struct {
	Floor        uint64 // all messages below are done
	Next         uint64 // no message from here on was ever leased
	InFlight     int    // leased messages
	Redelivering int    // messages that wait to be leased again
	Parked       int    // messages that wait for an earlier one of their key
	Dead         int    // dead letters that the broker has not buried
	Acked        uint64 // messages acknowledged or discarded since the process started
}

// Policy returns the queue's policy, with the defaults filled in.
func (q *Queue) Policy() Policy { return q.policy }

// Stats returns the current figures. A lease past its deadline counts as in flight until PlanExpire and
// Apply have taken it back.
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

// Backlog returns how many messages below limit are not done, including those in flight.
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

// track adds r, which must lie behind all other runs.
func (q *Queue) track(r run) {
	q.runs.append(r)
	q.total.messages += r.count
}

// tracked returns how many messages are neither done nor fresh.
func (q *Queue) tracked() uint64 {
	sum := q.runs.summary()
	return sum.messages()
}

// floor returns the lowest offset that is not done.
func (q *Queue) floor() uint64 {
	if r, ok := q.runs.find(0, probe{}); ok {
		return r.first
	}
	return q.next
}

// Lease appends to dst leases of at most most messages below limit, the end of what consumers may see, and
// returns the extended slice. Messages that are due for redelivery come first, in offset order, then fresh
// ones. Neighbours with the same attempt share a Lease. One call leases at most MaxInFlight messages. A
// lease of 0 means the policy's; a longer one than maxLease is shortened to that. owner identifies the
// leases for ReleaseOwner.
//
// A queue with order by key leases a message only when all earlier ones of its key are done, and only as
// far as it knows the keys: call WantsKeys and LearnKeys first, and again while it leases less than most.
func (q *Queue) Lease(
	dst []Lease, most int, limit uint64, lease time.Duration, owner uint64, now time.Time,
) []Lease {
	sum := q.runs.summary()
	if most <= 0 || sum.dead >= MaxDead {
		return dst
	}
	g := grant{leases: dst, old: len(dst), left: min(uint64(most), MaxInFlight), owner: owner}
	g.deadline = after(now, wholeMs(lease, q.policy.Lease, maxLease))
	if o := q.order; o != nil {
		q.leaseDue(&g, min(limit, o.known), ms(now))
		q.leaseFreshOrdered(&g, limit)
		return g.leases
	}
	q.leaseDue(&g, limit, ms(now))
	q.leaseFresh(&g, limit)
	return g.leases
}

// grant is the state of one call of Queue.Lease.
type grant struct {
	leases   []Lease
	old      int    // leases that were there before
	left     uint64 // messages that may still be leased
	owner    uint64
	deadline int64
}

// Full reports whether the queue leases no fresh messages before some are done.
func (q *Queue) Full() bool {
	most := uint64(MaxInFlight)
	if q.Ordered() {
		most = maxOrdered
	}
	sum := q.runs.summary()
	return sum.messages() >= most || sum.dead >= MaxDead
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

// note appends a lease, or extends the last one of this grant.
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

// leaseDue leases messages below limit whose redelivery is due.
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

// leaseFresh leases fresh messages below limit.
func (q *Queue) leaseFresh(g *grant, limit uint64) {
	sum := q.runs.summary()
	if limit <= q.next || sum.messages() >= MaxInFlight {
		return
	}
	count := min(g.left, limit-q.next, MaxInFlight-sum.messages())
	if count == 0 {
		return
	}
	q.track(g.take(run{first: q.next, count: count}))
	q.next += count
}

// set replaces the offsets of part in r, a run of the tree, by part.
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

// remove removes [first, end) from r, a run of the tree: these messages are done.
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
	q.total.messages -= end - first
	q.leaveAll(first, end)
}

// ReleaseOwner takes back all leases of owner, whose connection is gone. Their messages can be leased again
// at once. The delivery counts as an attempt until the broker restarts; nothing is logged. To stop messages
// that kill their workers, a lease at the last attempt is not taken back but expires now, so that PlanExpire
// makes its messages dead letters.
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

// Rewind corrects what a clock that was ahead left behind: a lease that would end later than any that begins now gets the
// policy's lease, and a redelivery that would be due later than any that is asked for now is due at once. Nothing is
// logged: after a restart the same is done again.
func (q *Queue) Rewind(now time.Time) {
	lease, wait := after(now, maxLease), ms(now)+int64(maxWait)
	var late []run
	for r := range q.runs.each {
		switch {
		case r.leased() && r.deadline > lease:
			r.deadline = after(now, q.policy.Lease)
		case r.waiting() && r.due > wait:
			r.due = ms(now)
		default:
			continue
		}
		late = append(late, r)
	}
	for _, r := range late {
		whole, _ := q.runs.find(r.first, probe{})
		q.set(whole, r)
	}
}

// Expiry returns the earliest deadline of all leases, when PlanExpire has something to do, and false when
// nothing is leased.
func (q *Queue) Expiry() (time.Time, bool) { return moment(q.runs.summary().deadline) }

// Deadline returns the earliest time at which a lease expires or a redelivery is due, and false when there is
// none. A redelivery stays due until somebody leases the message, so the time may be in the past: then only
// Expiry needs a timer.
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

// truncate makes all messages below first done, and returns how many of them were neither done nor leased.
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
			q.order.dropUsed()
		}
	}
	q.settled = max(q.settled, first)
	return lost
}
