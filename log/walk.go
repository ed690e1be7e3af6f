package log

import (
	"bytes"
	"cmp"

	"github.com/rafka-mq/rafka/wire"
)

// windowBytes is how much of a file a walk reads at once.
const windowBytes = 256 << 10

// step is an entry in a file, or damage in front of the next one.
type step struct {
	entry wire.Entry // payload is valid until the next step
	pos   int64      // where the entry or the damage starts
	end   int64      // behind it
	bad   bool       // damage; when entry.Length is not 0, the stamp is intact but the payload is not
}

// walker walks over the entries of one log in a range of a file. After damage it continues at the next intact entry with
// a higher index.
type walker struct {
	file   File
	seed   uint32
	pos    int64
	end    int64
	index  uint64 // entries with a lower index are stale
	bound  uint64 // entries from this index on are stale; 0 means no bound
	zero   bool   // zeros mark the end and are no damage
	ahead  int    // how much to read at once; 0 means windowBytes
	window []byte
	base   int64 // position of window[0]
}

// bytes returns n bytes at pos, or fewer at the end of the range. They are valid until the next call.
func (w *walker) bytes(pos int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.end-pos))
	if off := pos - w.base; off < 0 || off+int64(n) > int64(len(w.window)) {
		size := int(min(int64(max(n, cmp.Or(w.ahead, windowBytes))), w.end-pos))
		if cap(w.window) < size {
			w.window = make([]byte, size)
		}
		w.window, w.base = w.window[:size], pos
		if err := readEntries(w.file, w.window, pos); err != nil {
			w.window = w.window[:0]
			return nil, err
		}
	}
	off := int(pos - w.base)
	return w.window[off : off+n : off+n], nil
}

// next returns the next step, and false at the end. The error is one of reading the file.
func (w *walker) next() (step, bool, error) {
	if w.pos >= w.end {
		return step{}, false, nil
	}
	head, err := w.bytes(w.pos, wire.StampBytes+4)
	if err != nil {
		return step{}, false, err
	}
	if w.zero && allZero(head) {
		return step{}, false, nil
	}
	if !w.fits(head, w.pos) {
		return w.resync()
	}
	var st wire.Stamp
	st.View(head)
	if w.bound != 0 && st.Index >= w.bound {
		return step{}, false, nil
	}
	b, err := w.bytes(w.pos, st.Size())
	if err != nil {
		return step{}, false, err
	}
	e, _, err := wire.ParseEntry(b, w.seed)
	s := step{entry: e, pos: w.pos, end: w.pos + int64(st.Size())}
	if err != nil {
		s.bad, s.entry.Stamp = true, st
	}
	w.pos, w.index = s.end, st.NextIndex()
	return s, true, nil
}

// complete reports whether the range has all entries up to bound, and if so makes it end with them: a write failed
// behind. It does not move w.
func (w *walker) complete() (bool, error) {
	for look := *w; ; {
		st, ok, err := look.next()
		if err != nil || !ok || st.bad {
			return false, err
		}
		if st.entry.NextIndex() == w.bound {
			w.end = st.end
			return true, nil
		}
	}
}

// fits reports whether there is an intact stamp of an expected entry at pos.
func (w *walker) fits(head []byte, pos int64) bool {
	if !wire.CheckStamp(head, w.seed) {
		return false
	}
	var st wire.Stamp
	st.View(head)
	return st.Index >= w.index && pos+int64(st.Size()) <= w.end
}

// resync returns the damage from pos to the next intact entry, or to the end.
func (w *walker) resync() (step, bool, error) {
	s := step{pos: w.pos, bad: true}
	for pos := w.pos + 1; pos < w.end; {
		b, err := w.bytes(pos, windowBytes)
		if err != nil {
			return step{}, false, err
		}
		for i := range b {
			if i+wire.StampBytes+4 > len(b) {
				break
			}
			whole, err := w.whole(b[i:], pos+int64(i))
			if err != nil {
				return step{}, false, err
			}
			if whole {
				w.pos, s.end = pos+int64(i), pos+int64(i)
				return s, true, nil
			}
		}
		if pos+int64(len(b)) >= w.end {
			break
		}
		pos += int64(len(b) - wire.StampBytes - 3)
	}
	w.pos, s.end = w.end, w.end
	return s, true, nil
}

// whole reports whether there is an intact entry at pos. It reads the payload from the file when b does not hold all of
// it.
func (w *walker) whole(b []byte, pos int64) (bool, error) {
	if !w.fits(b, pos) {
		return false, nil
	}
	var st wire.Stamp
	st.View(b)
	if len(b) >= st.Size() {
		return wire.PayloadOK(b[wire.StampBytes:st.Size()]), nil
	}
	payload := make([]byte, st.Length)
	err := readEntries(w.file, payload, pos+wire.StampBytes)
	return err == nil && wire.PayloadOK(payload), err
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
