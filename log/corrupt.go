package log

import (
	"errors"
	"sync"
)

var errMissing = errors.New("entries are missing")

// maxRanges bounds how many distinct damaged ranges a log remembers.
const maxRanges = 1024

// lost returns the CorruptError for a read at first and counts the range once.
func (l *Log) lost(c *Chunk, path string, pos int64, first, next uint64) error {
	c.Next = next
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLostLocked(first, next)
	return &CorruptError{Path: path, Pos: pos, First: first, Next: next, Err: errMissing}
}

func (l *Log) noteLostLocked(first, next uint64) {
	if l.stats.corrupt == nil {
		l.stats.corrupt = make(map[lostRange]struct{})
	}
	if len(l.stats.corrupt) < maxRanges {
		l.stats.corrupt[lostRange{first, next}] = struct{}{}
	}
}

// buffers holds the memory of cold reads.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func putBuffer(b *[]byte) { buffers.Put(b) }
