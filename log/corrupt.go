package log

import (
	"errors"
	"path"
	"slices"
)

var errMissing = errors.New("entries are missing")

// maxRanges bounds the damaged ranges that are remembered, so that one that is read again and again counts once.
const maxRanges = 1024

type lostRange struct{ first, next uint64 }

// lost is the result of a read that starts in damage: c goes on behind it. It counts the range once.
func (l *Log) lost(c *Chunk, e CorruptError) error {
	c.Next = e.Next
	if l.noteLost(lostRange{e.First, e.Next}) {
		l.store.logger.Error("corrupt range", "path", e.Path, "pos", e.Pos, "offset", e.First, "next", e.Next, "err", e.Err)
	}
	return &e
}

// gap is the damage of offsets for which there is no entry.
func (l *Log) gap(first, next uint64) CorruptError {
	return CorruptError{Path: l.dir(), First: first, Next: next, Err: errMissing}
}

// noteLost counts a lost range. It reports whether the range is new, which means not part of a known one.
func (l *Log) noteLost(r lostRange) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.corrupt {
		if k.first <= r.first && r.next <= k.next {
			return false
		}
	}
	// A read that began in the middle of damage has found a part of it: the whole takes its place.
	l.corrupt = slices.DeleteFunc(l.corrupt, func(k lostRange) bool {
		if k.next <= r.first || r.next <= k.first {
			return false
		}
		r = lostRange{min(k.first, r.first), max(k.next, r.next)}
		return true
	})
	if len(l.corrupt) < maxRanges {
		l.corrupt = append(l.corrupt, r)
	}
	return true
}

// reportDamage counts and logs damage that costs no record: to a header, a footer or a checkpoint.
func (s *Store) reportDamage(name string, pos int64, err error) {
	s.damage.Add(1)
	s.logger.Error("damage found", "path", name, "pos", pos, "err", err)
}

// dir returns the directory of the log's segments.
func (l *Log) dir() string {
	return path.Join(l.store.options.Dir, partitionsDir, logDir(l.id))
}
