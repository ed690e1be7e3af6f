package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/log"
)

// devDir is the directory of a rafka dev, which deletes it when it ends:
//
//	$TMPDIR/rafka-dev-123/lock    locked by the broker while it lives
//	$TMPDIR/rafka-dev-123/data    its data directory
//
// The next rafka dev deletes the directories that killed ones left: those that have the lock file, and are the user's
// own. What else is called rafka-dev- something is none of ours.
type devDir struct {
	path string
	root *os.Root
	lock *os.File
}

const (
	devPrefix = "rafka-dev-"
	devLock   = "lock"
	devData   = "data"
)

// errTaken says that somebody else has the lock of a directory, or has deleted it.
var errTaken = errors.New("in use")

// newDevDir makes a directory and locks it.
func newDevDir() (*devDir, error) {
	for {
		path, err := os.MkdirTemp("", devPrefix)
		if err != nil {
			return nil, err
		}
		// Before we have the lock, another rafka dev may take the directory for that of a dead one.
		if d, err := lockDevDir(path, os.O_CREATE); !errors.Is(err, errTaken) {
			return d, err
		}
	}
}

// lockDevDir locks the directory at path. It returns errTaken when it cannot have the lock.
func lockDevDir(path string, flag int) (*devDir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &devDir{path: path, root: root}
	if d.lock, err = root.OpenFile(devLock, os.O_RDWR|flag, 0o600); err != nil {
		return nil, errors.Join(err, d.close())
	}
	err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && !d.here() {
		err = errTaken
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// here reports whether the locked file still has its name.
func (d *devDir) here() bool {
	held, err1 := d.lock.Stat()
	named, err2 := os.Lstat(filepath.Join(d.path, devLock))
	return err1 == nil && err2 == nil && os.SameFile(held, named)
}

func (d *devDir) data() string { return filepath.Join(d.path, devData) }

// lockData locks the data, which a rafka serve may be looking at.
func (d *devDir) lockData() (io.Closer, error) {
	if info, err := d.root.Lstat(devData); err != nil || !info.IsDir() {
		return io.NopCloser(nil), nil // killed before it had data
	}
	return log.OS.Lock(filepath.Join(d.data(), "LOCK"))
}

// remove deletes the directory. The lock goes last: if something stops us before, the next rafka dev goes on.
func (d *devDir) remove() error {
	err := d.root.RemoveAll(devData)
	if err == nil {
		err = errors.Join(d.root.Remove(devLock), os.Remove(d.path))
	}
	return errors.Join(err, d.close())
}

func (d *devDir) close() error {
	err := d.root.Close()
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

// removeDead deletes the directories of brokers that were killed.
func (c *cli) removeDead() {
	parent := os.TempDir()
	entries, _ := os.ReadDir(parent) // what cannot be listed has nothing for us
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), devPrefix) {
			continue
		}
		d, unused, ok := deadDevDir(filepath.Join(parent, e.Name()))
		if !ok {
			continue
		}
		err := errors.Join(d.remove(), unused.Close())
		if err != nil {
			c.sayf("the data that a killed rafka dev left cannot be deleted: %v", err)
			continue
		}
		c.sayf("deleted %s, which a killed rafka dev left", d.path)
	}
}

// deadDevDir locks the directory at path, and the data in it, if it is the user's own and belongs to no broker that
// lives.
func deadDevDir(path string) (d *devDir, data io.Closer, ok bool) {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() { // a symbolic link may lead anywhere
		return nil, nil, false
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return nil, nil, false
	}
	if d, err = lockDevDir(path, 0); err != nil {
		return nil, nil, false
	}
	opened, err := d.root.Stat(".")
	if err == nil && os.SameFile(info, opened) {
		if data, err = d.lockData(); err == nil {
			return d, data, true
		}
	}
	_ = d.close() // nothing was written
	return nil, nil, false
}
