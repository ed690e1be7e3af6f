package log

import (
	"errors"
	"path"
)

var errMissing = errors.New("entries are missing")

// maxRanges bounds the damaged ranges that are remembered, so that one that is read again and again counts once.
const maxRanges = 1024

type lostRange struct{ first, next uint64 }

// lost returns the CorruptError for a read at first, and counts its range once.
func (l *Log) lost(c *Chunk, name string, pos int64, first, next uint64, err error) error {
	c.Next = next
	if l.noteLost(lostRange{first, next}) {
		l.store.logger.Error("corrupt range", "path", name, "pos", pos, "offset", first, "next", next, "err", err)
	}
	return &CorruptError{Path: name, Pos: pos, First: first, Next: next, Err: err}
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
