package group

import "time"

// Limits of names, commands and queues.
const (
	// maxName is the longest name of a group in bytes, as in the protocol.
	maxName = 255
	// MaxGroups bounds the number of ordered groups and queues of one partition together.
	MaxGroups = 10_000
	// MaxReason bounds the reason of a dead letter in bytes. Longer ones are cut.
	MaxReason = 256
	// maxRanges bounds the ranges of one command, and the ranges that one call of a Plan function
	// looks at. So a command stays under 5 MiB, which fits an entry of the log.
	maxRanges = 1 << 18
	// MaxInFlight bounds the messages of one queue that were leased and are not done. A million of
	// them, each in a range of its own, take 52 MB.
	MaxInFlight = 1_000_000
	// MaxDead is the number of dead letters at which a queue stops leasing until the broker has buried
	// some. Without it they would pile up while their topic cannot be written.
	MaxDead = 100_000
)

// A command is
//
//	0         1      2
//	+---------+------+---------------+---------------------+
//	| version | kind | group         | body, by kind       |
//	+---------+------+---------------+---------------------+
//
//	commit    offset uvarint, at uvarint
//	drop      nothing
//	open      start uvarint, policy; the same for open ordered, with order by key
//	ack       ranges of (gap, count)
//	fail      at uvarint, reason text, ranges of (gap, count, attempt, wait)
//	bury      ranges of (gap, count)
//	pause     nothing
//	resume    nothing
//
// group and reason are texts: a uvarint length and the bytes. A policy is four uvarints and a text:
// lease, lowest and highest backoff, deliveries, dead-letter topic. Ranges are a little-endian u32
// count and, for each range, a zigzag varint gap from the end of the range before (from 0 for the
// first), a uvarint count of messages, and for fail a uvarint attempt and a uvarint wait. A wait of 0
// makes the messages dead letters; a wait w lets them be delivered again at at+w-1. Times are
// milliseconds since 1970, durations milliseconds. Varints have their shortest form, and nothing
// follows the last range.
const commandVersion = 1

const (
	kindCommit = 1 + iota
	kindDrop
	kindOpen
	kindAck
	kindFail
	kindBury
	kindPause
	kindResume
)

const kindOpenOrdered = 10

// AppendCommit appends the command that makes offset the next one that an ordered group reads. Commits
// may go backwards. The name must have passed State.Check.
func AppendCommit(dst []byte, group string, offset uint64, at time.Time) []byte {
	dst = appendHeader(dst, kindCommit, group)
	return appendUint(appendUint(dst, offset), uint64(ms(at)))
}

// AppendDrop appends the command that forgets the ordered group and the queue of this name.
func AppendDrop(dst []byte, group string) []byte {
	return appendHeader(dst, kindDrop, group)
}

// AppendOpen appends the command that creates the queue of this name, with start as its first offset. A
// queue that exists gets the policy and keeps its place. The name must have passed State.Check, and
// p.DeadLetter must have at most maxName bytes.
func AppendOpen(dst []byte, name string, start uint64, p Policy) []byte {
	kind := byte(kindOpen)
	if p.OrderByKey {
		kind = kindOpenOrdered
	}
	dst = appendUint(appendHeader(dst, kind, name), start)
	return appendPolicy(dst, p.normal())
}

func appendHeader(dst []byte, kind byte, group string) []byte {
	return appendText(append(dst, commandVersion, kind), group)
}

// span is one range of a command.
type span struct {
	first, count uint64
	attempt      uint16 // in a fail command only
	wait         uint64 // in a fail command only; see above
}

func (s *span) end() uint64 { return s.first + s.count }

// spanWriter appends ranges to a command and joins those that continue each other.
type spanWriter struct {
	buf  []byte
	fail bool
	from int    // position of the count of ranges in buf
	n    uint32 // ranges, with last
	prev uint64 // end of the range in front of last
	last span   // not in buf yet
}

func newSpanWriter(header []byte, fail bool) spanWriter {
	return spanWriter{buf: append(header, 0, 0, 0, 0), fail: fail, from: len(header)}
}

// take adds s and returns s.count, or 0 when the command is full.
func (w *spanWriter) take(s span) uint64 {
	l := &w.last
	if w.n > 0 && l.end() == s.first && l.attempt == s.attempt && l.wait == s.wait {
		l.count += s.count
		return s.count
	}
	if w.n == maxRanges {
		return 0
	}
	w.flush()
	w.n++
	w.last = s
	return s.count
}

// flush writes last to buf.
func (w *spanWriter) flush() {
	if w.n == 0 {
		return
	}
	w.buf = appendSint(w.buf, int64(w.last.first-w.prev))
	w.buf = appendUint(w.buf, w.last.count)
	if w.fail {
		w.buf = appendUint(w.buf, uint64(w.last.attempt))
		w.buf = appendUint(w.buf, w.last.wait)
	}
	w.prev = w.last.end()
}

// finish returns the command, or nil when it has no ranges.
func (w *spanWriter) finish() []byte {
	if w.n == 0 {
		return nil
	}
	w.flush()
	le.PutUint32(w.buf[w.from:], w.n)
	return w.buf
}

// spans walks over the encoded ranges of a command.
type spans struct {
	r    reader
	fail bool
	left uint32
	prev uint64
}

// spans reads the ranges of a command. It checks all of them, so that the walk cannot fail.
func (r *reader) spans(fail bool) spans {
	s := spans{fail: fail, left: r.fixed()}
	s.r = *r
	if s.left == 0 || s.left > maxRanges {
		r.fail()
		return s
	}
	check := s
	for range s.left {
		if _, ok := check.next(); !ok {
			r.fail()
			return s
		}
	}
	r.b = check.r.b
	return s
}

// next returns the next range, and false behind the last one or at an invalid one.
func (s *spans) next() (span, bool) {
	if s.left == 0 {
		return span{}, false
	}
	s.left--
	v := span{first: s.prev + uint64(s.r.sint()), count: s.r.uint(1<<64 - 1)}
	if s.fail {
		v.attempt = uint16(s.r.uint(1<<16 - 1))
		v.wait = s.r.uint(maxWait)
	}
	s.prev = v.end()
	ok := !s.r.bad && v.count > 0 && v.end() >= v.first && s.fail == (v.attempt > 0)
	return v, ok
}

// maxWait is the largest wait of a range: maxDelay in milliseconds with 20 % of jitter, plus one.
const maxWait = uint64(maxDelay/time.Millisecond)*12/10 + 1
