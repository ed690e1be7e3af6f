package log_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// hookedFS calls a hook before one of the steps of somebody who reads segments.
type hookedFS struct {
	log.FS
	hook func()
	left int // steps before it
}

func (h *hookedFS) step() {
	f := h.hook
	if f == nil {
		return
	}
	if h.left--; h.left < 0 {
		h.hook = nil
		f()
	}
}

func (h *hookedFS) Open(name string, write, create bool) (log.File, error) {
	if write || !strings.HasSuffix(name, ".seg") {
		return h.FS.Open(name, write, create)
	}
	h.step()
	f, err := h.FS.Open(name, write, create)
	return hookedFile{f, h}, err
}

type hookedFile struct {
	log.File
	fs *hookedFS
}

func (f hookedFile) ReadAt(b []byte, pos int64) (int, error) {
	f.fs.step()
	return f.File.ReadAt(b, pos)
}

// The end of a log is cut, and as many other entries are filed in its place, between any two steps of
// somebody who reads there. Nothing is damaged, for this reader or for a later one.
func TestACutWhileSomebodyReadsIsNoDamage(t *testing.T) {
	const entries, offset = 400, 350
	for _, at := range []uint64{300, 101, 2} {
		for step := range 5 {
			disk := faultfs.New()
			fs := &hookedFS{FS: disk}
			o := small(disk)
			o.SegmentBytes, o.FS = 1<<20, fs
			s := open(t, o)
			l := openLog(t, s, identity(1), log.Config{})
			fill := func(from, seq uint64, small, large int) { // the same bytes, in other places
				for i := from; i < entries; i++ {
					size := small
					if i/2%2 == 0 {
						size = large
					}
					_, _, err := l.Append(data(seq+i, 1, size))
					require.NoError(t, err)
				}
				require.NoError(t, s.Checkpoint())
			}
			fill(0, 0, 100, 200)
			s.Forget()
			fs.left, fs.hook = step, func() {
				require.NoError(t, l.TruncateSuffix(at))
				fill(at-1, 1000, 200, 100)
				s.Forget()
			}
			for range 2 {
				var c log.Chunk
				require.NoError(t, l.ReadCold(&c, offset, entries, 4<<10), "cut to %d before step %d", at, step)
				require.Positive(t, c.Bytes)
				c.Release()
			}
			for i := uint64(entries); fs.hook == nil && i >= at; i-- { // none goes on where another ended
				got := readFrom(t, l, i-1, i)
				require.Len(t, got, 1)
				require.Equal(t, 1000+i-1, binary.LittleEndian.Uint64(got[0].Payload[4:]))
			}
			require.NoError(t, s.Close())
			require.Zero(t, s.Stats().Damage)
		}
	}
}
