package group

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"time"
)

// A snapshot is
//
//	0         1       .           .           .           .          .           .          n       n+4
//	+---------+-------+-----------+-----------+-----------+----------+-----------+----------+--------+
//	| version | first | n uvarint | n commits | n uvarint | n queues | n uvarint | n paused | crc32c |
//	+---------+-------+-----------+-----------+-----------+----------+-----------+----------+--------+
//
//	commit    name, offset uvarint, at uvarint
//	queue     name, policy, order uvarint, settled uvarint, n uvarint, n causes, n u32, n runs
//	paused    name
//	cause     reason text, at uvarint
//	run       gap uvarint, count uvarint, fails uvarint, and if fails > 0:
//	          since uvarint, mark uvarint, and if mark is 0: due uvarint
//
// first is the lowest offset that retention has left. Names are sorted, and causes are in the order of their
// commands. gap is the number of done messages between the end of the run before, or offset 0, and this one.
// No run reaches beyond settled. A mark of m > 0 says that the messages are dead letters by the m-th cause.
// order is 1 for order by key, else 0. since is in seconds since 1970, at and due are in milliseconds since
// 1970. The rest is as in a command. crc32c, a little-endian u32, is the Castagnoli checksum of all bytes
// before it.
//
// Version 1 has neither order nor paused names.
//
// The bytes depend on the commands and truncations alone. Leases are not in them.
const snapshotVersion = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendSnapshot appends the durable part of the state to dst.
func (s *State) AppendSnapshot(dst []byte) []byte {
	from := len(dst)
	dst = appendUint(append(dst, snapshotVersion), s.first)
	dst = appendUint(dst, uint64(len(s.commits)))
	for _, name := range slices.Sorted(maps.Keys(s.commits)) {
		c := s.commits[name]
		dst = appendUint(appendText(dst, name), c.Offset)
		dst = appendUint(dst, uint64(ms(c.At)))
	}
	dst = appendUint(dst, uint64(len(s.queues)))
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		dst = s.queues[name].appendSnapshot(dst)
	}
	dst = appendUint(dst, uint64(len(s.paused)))
	for _, name := range slices.Sorted(maps.Keys(s.paused)) {
		dst = appendText(dst, name)
	}
	return le.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

func (q *Queue) appendSnapshot(dst []byte) []byte {
	dst = appendPolicy(appendText(dst, q.name), q.policy)
	dst = appendUint(dst, oneIf(q.policy.OrderByKey))
	dst = appendUint(dst, q.settled)
	ids := slices.Sorted(maps.Keys(q.causes))
	dst = appendUint(dst, uint64(len(ids)))
	for _, id := range ids {
		c := q.causes[id]
		dst = appendUint(appendText(dst, c.reason), uint64(c.at))
	}
	w := runWriter{buf: append(dst, 0, 0, 0, 0), ids: ids}
	for r := range q.runs.each {
		if r.first >= q.settled {
			break
		}
		w.add(r.clip(0, q.settled).durable())
	}
	w.flush()
	le.PutUint32(w.buf[len(dst):], w.n)
	return w.buf
}

func oneIf(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// durable returns r without its lease.
func (r run) durable() run {
	if !r.isDead() {
		r.deadline, r.tag = 0, 0
	}
	r.attempts = r.fails
	return r
}

// runWriter appends runs to a snapshot, and joins those that only their leases kept apart.
type runWriter struct {
	buf  []byte
	ids  []uint64 // of the causes, sorted
	n    uint32   // runs, with last
	prev uint64   // end of the run in front of last
	last run      // not in buf yet
}

func (w *runWriter) add(r run) {
	if w.n > 0 && w.last.alike(&r) {
		w.last.count += r.count
		return
	}
	w.flush()
	w.n++
	w.last = r
}

func (w *runWriter) flush() {
	if w.n == 0 {
		return
	}
	r := &w.last
	w.buf = appendUint(w.buf, r.first-w.prev)
	w.prev = r.end()
	w.buf = appendUint(appendUint(w.buf, r.count), uint64(r.fails))
	if r.fails == 0 {
		return
	}
	w.buf = appendUint(w.buf, uint64(r.since))
	if r.isDead() {
		i, _ := slices.BinarySearch(w.ids, r.tag)
		w.buf = appendUint(w.buf, uint64(i)+1)
		return
	}
	w.buf = appendUint(appendUint(w.buf, 0), uint64(r.due))
}

// Restore returns the state in a snapshot. It does not keep the snapshot. The error is ErrVersion for a
// snapshot of a newer version, and errSnapshot for one that is damaged or cut short.
func Restore(snapshot []byte) (*State, error) {
	n := len(snapshot) - 4
	if n < 1 || crc32.Checksum(snapshot[:n], castagnoli) != le.Uint32(snapshot[n:]) {
		return nil, errSnapshot
	}
	if err := CheckSnapshot(snapshot); err != nil {
		return nil, err
	}
	return restore(snapshot[:n])
}

// CheckSnapshot returns ErrVersion for a snapshot of a newer version, and otherwise nil.
func CheckSnapshot(snapshot []byte) error {
	if len(snapshot) > 0 && snapshot[0] > snapshotVersion {
		return fmt.Errorf("%w: snapshot version %d, not %d", ErrVersion, snapshot[0], snapshotVersion)
	}
	return nil
}

// restore is Restore without the checks of the checksum and of newer versions.
func restore(b []byte) (*State, error) {
	s := New()
	r := reader{b: b}
	version := r.byte()
	if version == 0 {
		r.fail()
	}
	s.first = r.uint(math.MaxUint64)
	last := ""
	for range r.count(4) {
		name := string(r.name())
		if r.bad || name <= last {
			return nil, errSnapshot
		}
		last = name
		s.commits[name] = &Commit{Offset: r.uint(math.MaxUint64), At: time.UnixMilli(r.moment())}
	}
	last = ""
	for range r.count(13) {
		q := r.queue(s.first, version, &s.total)
		if r.bad || q.name <= last {
			return nil, errSnapshot
		}
		last = q.name
		s.queues[q.name] = q
	}
	if version > 1 && !s.restorePaused(&r) {
		return nil, errSnapshot
	}
	if r.bad || len(r.b) > 0 || len(s.commits)+len(s.queues) > MaxGroups {
		return nil, errSnapshot
	}
	return s, nil
}

// restorePaused reads the names of paused groups.
func (s *State) restorePaused(r *reader) bool {
	last := ""
	for range r.count(2) {
		name := string(r.name())
		if r.bad || name <= last {
			return false
		}
		last = name
		s.paused[name] = struct{}{}
	}
	return len(s.paused) <= MaxGroups
}

// queue reads a queue, which must have no run below first, and adds its messages to total.
func (r *reader) queue(first uint64, version byte, total *totals) *Queue {
	name, policy := string(r.name()), r.policy()
	if version > 1 {
		policy.OrderByKey = r.uint(1) == 1
	}
	q := newQueue(name, 0, policy, total)
	q.settled = r.uint(math.MaxUint64)
	q.next = q.settled
	if q.settled < first {
		r.fail()
	}
	for range r.count(2) {
		c := &cause{reason: string(r.bytes(MaxReason)), at: r.moment()}
		q.keep(q.causeID+1, c)
	}
	prev := uint64(0)
	for n := r.fixed(); n > 0 && !r.bad; n-- {
		v := r.run(q, prev)
		if v.first < first {
			r.fail()
		}
		if r.bad {
			return q
		}
		q.track(v)
		prev = v.end()
	}
	for _, c := range q.causes {
		if c.messages == 0 {
			r.fail()
		}
	}
	return q
}

// run reads a run, which must lie between prev and q.settled.
func (r *reader) run(q *Queue, prev uint64) run {
	v := run{first: prev + r.uint(q.settled-prev)}
	v.count = r.uint(q.settled - v.first)
	v.fails = uint16(r.uint(math.MaxUint16))
	v.attempts = v.fails
	if v.count == 0 {
		r.fail()
	}
	if v.fails == 0 {
		return v
	}
	v.since = uint32(r.uint(math.MaxUint32))
	v.tag = r.uint(uint64(len(q.causes)))
	if v.since == 0 {
		r.fail()
	}
	if v.tag == 0 {
		v.due = int64(r.uint(maxMoment + maxWait))
		return v
	}
	v.due = never
	if c := q.causes[v.tag]; c != nil {
		c.messages += v.count
	}
	return v
}
