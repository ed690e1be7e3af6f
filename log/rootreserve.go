package log

import (
	"errors"
	"path"
)

const (
	// rootReserveName is a file that keeps space for the next checkpoint. Files are removed behind a checkpoint only, so a
	// disk that is full to the last byte gets no space back without one.
	rootReserveName = "checkpoint.reserve"
	// leastRootReserve is the size of that file, unless the checkpoint is larger than half of it.
	leastRootReserve = 64 << 10
)

// keepRootReserve makes sure that there is space for a checkpoint, the last of which had size bytes. The next one may be
// larger by half: consumers go on, and their states grow, while the disk is full. The caller holds filing.
func (s *Store) keepRootReserve(size int64) {
	if s.rootReserve >= size+size/2 {
		return
	}
	name, want := path.Join(s.options.Dir, rootReserveName), max(leastRootReserve, 2*size)
	f, err := s.options.FS.Open(name, true, true)
	if err == nil {
		err = errors.Join(f.Allocate(want), f.Close())
	}
	if err == nil {
		s.rootReserve = want
	} else if !isFull(err) {
		s.logger.Warn("keep space for a checkpoint", "err", err)
	}
}

// releaseRootReserve gives the space to the checkpoint that is being written. It reports whether there was any. The
// caller holds filing.
func (s *Store) releaseRootReserve() bool {
	s.rootReserve = 0
	return s.options.FS.Remove(path.Join(s.options.Dir, rootReserveName)) == nil
}
