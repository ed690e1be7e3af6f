package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// goneInterval is how often a store looks whether its directory is still there.
const goneInterval = time.Second

// errGone is why a store whose directory was removed or replaced is read-only.
var errGone = errors.New("the data directory was removed or replaced")

// lockFile is a locked file of the operating system.
type lockFile struct{ *os.File }

// check returns an error when the name of the file means another file, or none.
func (f lockFile) check() error {
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(f.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, named) {
		return fmt.Errorf("%w: %s is not ours any more", errGone, f.Name())
	}
	return nil // of other errors, writes will tell
}

// isGone returns why the lock does not protect the directory any more.
func isGone(lock io.Closer) error {
	if f, ok := lock.(lockFile); ok {
		return f.check()
	}
	return nil
}

// checkMissing returns err, unless it says that a file is missing because the whole directory is: then nothing is lost that
// does not come back with the directory, for example when its file system is mounted again.
func (s *Store) checkMissing(err error) error {
	if missing(err) && errors.Is(isGone(s.lock), errGone) {
		return fmt.Errorf("%w: %s", errGone, err.Error()) // not wrapped: nothing is missing then
	}
	return err
}

// checkDir makes the store read-only when its directory is gone: the files that are open have no names any more, so
// nothing that is written to them would be found again.
func (s *Store) checkDir() error {
	err := isGone(s.lock)
	if !errors.Is(err, errGone) {
		return err
	}
	s.filing.Lock()
	defer s.filing.Unlock()
	if s.broken == nil {
		s.failures.Add(1)
		s.failAll(err)
	}
	return nil
}
