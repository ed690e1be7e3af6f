package log_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// gateFS holds up flushes of the commit log until its gate is closed; nil holds up none.
type gateFS struct {
	log.FS
	gate    chan struct{}
	reached chan struct{} // somebody comes to the gate
}

func (g *gateFS) Open(name string, write, create bool) (log.File, error) {
	f, err := g.FS.Open(name, write, create)
	if !strings.Contains(name, "/commit/") {
		return f, err
	}
	return gateFile{f, g}, err
}

type gateFile struct {
	log.File
	fs *gateFS
}

func (f gateFile) Sync() error {
	if f.fs.gate != nil {
		f.fs.reached <- struct{}{}
		<-f.fs.gate
	}
	return f.File.Sync()
}

// FlushHere makes the round before it returns, and tells the owner.
func TestFlushHereIsDurableWhenItReturns(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	var w watcher
	l := openLog(t, s, identity(1), log.Config{Notify: w.notify})
	for i := range uint64(50) {
		appendN(t, l, i, 1)
		l.FlushHere(wire.LevelDisk)
		require.Equal(t, i+2, l.Positions().DurableIndex)
		require.Equal(t, i+2, w.durable())
	}
	l.FlushHere(wire.LevelDisk) // nothing new
	s.Drop()
	s = open(t, small(disk))
	require.Equal(t, uint64(51), openLog(t, s, identity(1), log.Config{}).Positions().NextIndex)
	require.NoError(t, s.Close())
}

// FlushHere does not wait behind a round: the next one takes what it is about.
func TestFlushHereLeavesABusyFlusherItsWork(t *testing.T) {
	g := &gateFS{FS: faultfs.New()}
	o := small(nil)
	o.FS = g
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	l.FlushHere(wire.LevelDisk) // makes the file, whose header is flushed
	g.gate, g.reached = make(chan struct{}), make(chan struct{})
	appendN(t, l, 1, 1)
	l.Flush(wire.LevelDisk)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Round()
	}()
	<-g.reached
	appendN(t, l, 2, 1)
	l.FlushHere(wire.LevelDisk)
	require.Equal(t, uint64(2), l.Positions().DurableIndex)
	close(g.gate)
	<-done
	require.Equal(t, uint64(3), l.Positions().DurableIndex)
	go func() { <-g.reached }()
	s.Round()
	require.Equal(t, uint64(4), l.Positions().DurableIndex)
	s.Drop()
}

// Rounds that the flusher does not make are followed by a mark when the store is quiet, as all are.
func TestFlushHereIsFollowedByAMark(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.Hurry(10 * time.Millisecond)
	o.CheckpointInterval = time.Hour
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	marks := func() int {
		n := 0
		for _, name := range commitFiles(disk) {
			n += bytes.Count(disk.Bytes(name), []byte("RfkC"))
		}
		return n
	}
	for i := range uint64(3) {
		appendN(t, l, i, 1)
		l.FlushHere(wire.LevelDisk)
		eventually(t, "mark", func() bool { return marks() == 4*int(i+1) })
	}
	require.NoError(t, s.Close())
}

// A failed flush of FlushHere makes the log read-only, as one of the flusher does.
func TestFlushHereFails(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	var w watcher
	l := openLog(t, s, identity(1), log.Config{Notify: w.notify})
	appendN(t, l, 0, 1)
	l.FlushHere(wire.LevelDisk)
	eventually(t, "spare", func() bool { // its sync is not the one that fails
		return slices.ContainsFunc(disk.Names(), func(n string) bool { return strings.HasSuffix(n, ".spare") })
	})
	disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
	appendN(t, l, 1, 1)
	l.FlushHere(wire.LevelDisk)
	eventually(t, "failure", func() bool { return errors.Is(w.failed(), log.ErrReadOnly) })
	require.Equal(t, uint64(2), l.Positions().DurableIndex)
	disk.Fail(nil)
	_ = s.Close() // says that it is read-only
}

// A goroutine that is about to wake the flusher does not keep Sync from writing the log.
func TestSyncWritesWhatAnotherGoroutineHasAskedFor(t *testing.T) {
	s, err := log.OpenStill(small(faultfs.New()))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	l.Ask(wire.LevelOS)
	require.NoError(t, l.Sync())
	require.Equal(t, uint64(2), l.Positions().DurableIndex)
	s.Drop()
}
