package group

// maxOrdered bounds the messages of a queue with order by key that are neither done nor fresh, with those
// that wait for an earlier message of their key. At that number the queue leases no fresh messages. So a
// key whose first message fails holds up other keys only when this many of its own messages are waiting.
const maxOrdered = 1 << 18

// parked is the tag of a waiting run whose messages wait for an earlier message of their key.
const parked = 1

func (r *run) isParked() bool { return r.waiting() && r.tag == parked }

// order sorts the messages of a queue by key. Every message below known that is neither done nor a dead
// letter is in the chain of its key, in offset order. The first of a chain may be leased; the others are
// parked. Messages without a key are in no chain.
//
// All of it is soft. After a restart known is 0 again, and no message at or above it is leased before the
// keys up to there are learned.
type order struct {
	known  uint64           // keys below are in chains; at most Queue.next
	chains map[uint64]chain // by the hash of the key
	links  links
	at     uint64   // offset of ahead[0]
	ahead  []uint64 // learned keys that are not used yet
}

// chain is the offsets of the first and the last message of a key.
type chain struct {
	head, tail uint64
}

func newOrder() *order { return &order{chains: make(map[uint64]chain)} }

// Ordered reports whether the queue keeps the order of every key.
func (q *Queue) Ordered() bool { return q.order != nil }

// WantsKeys returns the offset from which on Lease needs to know the keys of messages, and false when it
// needs none now. The caller reads the keys and calls LearnKeys. limit is that of Lease.
func (q *Queue) WantsKeys(limit uint64) (from uint64, ok bool) {
	o := q.order
	if o == nil {
		return 0, false
	}
	q.chainKnown()
	if o.known < q.next {
		r, ok := q.runs.find(o.known, probe{})
		if ok {
			return max(o.known, r.first), true
		}
		o.known = q.next
	}
	if len(o.ahead) > 0 || q.next >= limit || q.tracked() >= maxOrdered {
		return 0, false
	}
	return q.next, true
}

// LearnKeys tells the queue the keys of the messages from an offset on: a hash of each, or 0 for a message
// without a key. It copies hashes. Keys that WantsKeys did not ask for are ignored.
func (q *Queue) LearnKeys(from uint64, hashes []uint64) {
	o := q.order
	if o == nil || len(hashes) == 0 {
		return
	}
	q.chainKnown()
	o.at, o.ahead = from, append(o.ahead[:0], hashes...)
	q.chainKnown()
}

// chainKnown adds the messages between known and next to their chains, as far as their keys are learned.
func (q *Queue) chainKnown() {
	o := q.order
	end := o.at + uint64(len(o.ahead))
	for o.known < q.next {
		r, ok := q.runs.find(o.known, probe{})
		if !ok {
			o.known = q.next
			break
		}
		first := max(o.known, r.first)
		if first < o.at || first >= end {
			break
		}
		part := r.clip(first, end)
		o.known = part.end()
		if !r.isDead() {
			for offset := part.first; offset < part.end(); offset++ {
				q.enlist(offset)
			}
		}
	}
	o.dropUsed()
}

// enlist adds a message of the tree to its chain, and parks it when it is not the first there.
func (q *Queue) enlist(offset uint64) {
	if !q.order.enter(offset, q.order.ahead[offset-q.order.at]) {
		q.mark(offset, parked)
	}
}

// mark sets the tag of a waiting message: parked, or 0 to let it be delivered.
func (q *Queue) mark(offset, tag uint64) {
	r, ok := q.runs.find(offset, probe{})
	if !ok || r.first > offset || !r.waiting() || r.tag == tag {
		return
	}
	part := r.clip(offset, offset+1)
	part.tag = tag
	q.set(r, part)
}

// park parks the waiting messages in [first, end) that are not the first of their key. There are such only
// among messages that were leased before the queue kept order.
func (q *Queue) park(first, end uint64) {
	o := q.order
	if o == nil {
		return
	}
	for offset := first; offset < min(end, o.known); offset++ {
		if l := o.links.at(offset); l != nil && l.key != 0 && o.chains[l.key].head != offset {
			q.mark(offset, parked)
		}
	}
}

// dropUsed forgets the learned keys of messages below known.
func (o *order) dropUsed() {
	n := min(uint64(len(o.ahead)), max(o.known, o.at)-o.at)
	o.ahead, o.at = o.ahead[n:], o.at+n
}

// enter adds a message to the end of the chain of its key, and reports whether it is the only one there.
func (o *order) enter(offset, key uint64) bool {
	if key == 0 {
		return true
	}
	c, exists := o.chains[key]
	if !exists {
		o.chains[key] = chain{head: offset, tail: offset}
		o.links.put(offset, key)
		return true
	}
	o.links.put(offset, key)
	o.links.at(c.tail).next = offset
	o.chains[key] = chain{head: c.head, tail: offset}
	return false
}

// leave removes a message from its chain. When that makes another message the first, it returns that one and
// true.
func (o *order) leave(offset uint64) (first uint64, changed bool) {
	l := o.links.at(offset)
	if l == nil || l.key == 0 {
		return 0, false
	}
	key, next := l.key, l.next
	o.links.remove(offset)
	c := o.chains[key]
	switch {
	case c.head == offset && c.tail == offset:
		delete(o.chains, key)
		return 0, false
	case c.head == offset:
		o.chains[key] = chain{head: next, tail: c.tail}
		return next, true
	}
	// Not the first: it was leased before the queue kept order.
	before := c.head
	for o.links.at(before).next != offset {
		before = o.links.at(before).next
	}
	o.links.at(before).next = next
	if c.tail == offset {
		o.chains[key] = chain{head: c.head, tail: before}
	}
	return 0, false
}

// leaveAll removes [first, end), which are done or dead, from the chains. Messages that are now the first of
// their chain may be leased.
func (q *Queue) leaveAll(first, end uint64) {
	o := q.order
	if o == nil {
		return
	}
	for offset := first; offset < min(end, o.known); offset++ {
		if next, changed := o.leave(offset); changed {
			q.mark(next, 0)
		}
	}
}

// keepOrder switches order by key on or off.
func (q *Queue) keepOrder(on bool) {
	switch {
	case on && q.order == nil:
		q.order = newOrder()
	case !on && q.order != nil:
		q.order = nil
		for r, ok := q.runs.find(0, probe{want: wantParked}); ok; r, ok = q.runs.find(r.end(), probe{want: wantParked}) {
			free := r
			free.tag = 0
			q.set(r, free)
		}
	}
}

// leaseFreshOrdered is leaseFresh for a queue with order by key: it leases messages that are the first of
// their key and parks the others.
func (q *Queue) leaseFreshOrdered(g *grant, limit uint64) {
	o := q.order
	if o.known < q.next || len(o.ahead) == 0 || o.at != q.next {
		return
	}
	room := maxOrdered - min(maxOrdered, q.tracked())
	end := min(limit, o.at+min(room, uint64(len(o.ahead))))
	for ; q.next < end && g.left > 0; q.next++ {
		r := run{first: q.next, count: 1}
		if o.enter(q.next, o.ahead[q.next-o.at]) {
			r = g.take(r)
		} else {
			r.tag = parked
		}
		q.track(r)
	}
	o.known = q.next
	o.dropUsed()
}

// linkPage is how many neighbouring offsets share a page: enough that its overhead is small, few enough that
// a single message left in it holds little memory.
const linkPage = 64

// link is a message in a chain. next is the offset of the next message of its key, or 0 for the last one;
// offset 0 itself is never next.
type link struct {
	key, next uint64
}

// links holds the messages in chains by offset.
type links struct {
	pages map[uint64]*page
	spare *page // an empty page for reuse, or nil
}

type page struct {
	used  int
	links [linkPage]link
}

// at returns the link of an offset, or nil when its page does not exist.
func (l *links) at(offset uint64) *link {
	p := l.pages[offset/linkPage]
	if p == nil {
		return nil
	}
	return &p.links[offset%linkPage]
}

func (l *links) put(offset, key uint64) {
	p := l.pages[offset/linkPage]
	if p == nil {
		if l.pages == nil {
			l.pages = make(map[uint64]*page)
		}
		p, l.spare = l.spare, nil
		if p == nil {
			p = new(page)
		}
		l.pages[offset/linkPage] = p
	}
	p.used++
	p.links[offset%linkPage] = link{key: key}
}

func (l *links) remove(offset uint64) {
	n := offset / linkPage
	p := l.pages[n]
	p.links[offset%linkPage] = link{}
	if p.used--; p.used == 0 {
		delete(l.pages, n)
		l.spare = p
	}
}
