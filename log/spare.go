package log

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// When blocks were only reserved, the first write to them makes the next flush update the metadata of the file system,
// too. On ext4 that is another write, of the file's inode, and takes 40 us of a flush of 100. So small rounds write zeros
// ahead of the chunks, and all files are recycled.

const (
	// aheadBytes is how many zeros are written ahead. Writing 128 KiB takes as long as what two to three flushes
	// save by it, and lasts for 30 rounds of 4 KiB.
	aheadBytes = 128 << 10
	// smallRound bounds the rounds that write zeros ahead: larger ones would use the zeros up too soon.
	smallRound = aheadBytes / 4
	// readySpares is how many spares are kept ready.
	readySpares = 1
	// shortOf is how many files must fit in the free space of the disk for spares to be kept.
	shortOf = 4
	// sparesQuiet is how long a store must be quiet before it removes spares that it does not need.
	sparesQuiet = time.Minute
)

// spare is a file of full size that is ready to become the next commit log file.
type spare struct {
	name    string
	written int64 // see commitLog.written
}

// source chooses the origin of the next file, whose first chunk ends at n: a spare, or a new file.
func (c *commitLog) source(n int64) (from string, room, written int64) {
	if len(c.spares) > 0 && n <= c.size {
		last := len(c.spares) - 1
		p := c.spares[last]
		c.spares = c.spares[:last]
		return path.Join(c.dir, p.name), c.size, p.written
	}
	return path.Join(c.dir, commitName(c.next)+tempExt), max(c.size, n), 0
}

// giveBack keeps a spare that was taken with source and could not be opened, and removes a new file. It returns why.
func (c *commitLog) giveBack(from string, written int64, err error) error {
	switch name := path.Base(from); {
	case isShort(err) && path.Ext(name) == spareExt: // nothing was done to it
		c.spares = append(c.spares, spare{name: name, written: written})
	case path.Ext(name) == tempExt:
		err = errors.Join(err, c.discard(name))
	}
	return err
}

// runSpares keeps spares ready until the store closes.
func (s *Store) runSpares() {
	quiet := time.NewTicker(sparesQuiet)
	defer quiet.Stop()
	var lsn uint64
	for n := 0; ; n++ {
		var err error
		select {
		case <-s.stop:
			return
		case <-s.commits.spent:
			err = s.makeSpare(fmt.Sprintf("%016x-%d", time.Now().UnixNano(), n))
		case <-quiet.C:
			lsn, err = s.trimSpares(lsn)
		}
		if err != nil && !isFull(err) {
			s.logger.Warn("prepare a commit log file", "err", err)
		}
	}
}

// makeSpare creates a spare unless enough are ready. The name must be new.
func (s *Store) makeSpare(name string) error {
	s.round.Lock()
	c := s.commits
	enough := len(c.spares) >= readySpares
	s.round.Unlock()
	if enough || s.full.Load() || c.short() {
		return nil
	}
	temp, made := path.Join(c.dir, name+tempExt), name+spareExt
	f, err := c.fs.Open(temp, true, true)
	if err != nil {
		return err
	}
	if err = f.Allocate(c.size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = c.fs.Rename(temp, path.Join(c.dir, made))
	}
	s.round.Lock()
	defer s.round.Unlock()
	if err != nil {
		return errors.Join(err, c.discard(path.Base(temp)))
	}
	c.spares = append(c.spares, spare{name: made})
	return nil
}

// trimSpares removes the spares beyond readySpares when nothing was written since the lsn that it returned the last
// time.
func (s *Store) trimSpares(before uint64) (lsn uint64, err error) {
	s.round.Lock()
	defer s.round.Unlock()
	if s.commits.lsn != before {
		return s.commits.lsn, nil
	}
	return before, s.commits.dropSpares(readySpares)
}

// short reports whether the disk has too little space to keep spares.
func (c *commitLog) short() bool {
	_, free, err := c.fs.Space(c.dir)
	return err == nil && free < shortOf*c.size
}

// dropSpares removes spares until there are keep of them, and what could not be removed before.
func (c *commitLog) dropSpares(keep int) error {
	errs := []error{c.sweep()}
	for len(c.spares) > keep {
		errs = append(errs, c.discard(c.spares[0].name))
		c.spares = c.spares[1:]
	}
	return errors.Join(errs...)
}
