package log_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// A round writes entries to the commit log that a checkpoint is filing. When that is done the commit log does not need
// them, and they keep no file of it for ever, although nothing is appended to their log any more.
func TestARoundDuringACheckpointKeepsNoFile(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	planned := 0
	c := log.Config{State: func() ([]byte, uint64) {
		if planned++; planned == 2 {
			s.Round() // the other log is planned already
		}
		return nil, 0
	}}
	for i := range byte(2) {
		l := openLog(t, s, identity(1+i), c)
		appendN(t, l, 0, 1)
		l.Ask(wire.LevelDisk)
	}
	require.NoError(t, s.Checkpoint())
	require.Equal(t, 2, planned)
	l := openLog(t, s, identity(3), log.Config{})
	for i := range uint64(20) {
		appendN(t, l, 60*i, 60)
		require.NoError(t, l.Sync())
		require.NoError(t, s.Checkpoint())
	}
	require.LessOrEqual(t, len(commitFiles(disk)), 2)
	require.NoError(t, s.Close())
}

// watched is a disk that calls functions before it renames a file to a name, and before it opens one.
type watched struct {
	*faultfs.Disk
	rename, open map[string]func()
}

func (w watched) Rename(oldName, newName string) error {
	if f := w.rename[newName]; f != nil {
		f()
	}
	return w.Disk.Rename(oldName, newName)
}

func (w watched) Open(name string, write, create bool) (log.File, error) {
	if f := w.open[name]; f != nil {
		f()
	}
	return w.Disk.Open(name, write, create)
}

// The same when the round begins while the checkpoint is written, and has its result when that is in effect.
func TestARoundThatOutlastsACheckpointKeepsNoFile(t *testing.T) {
	disk := watched{faultfs.New(), map[string]func(){}, map[string]func(){}}
	o := small(disk.Disk)
	o.FS = disk
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	written, filed, done := make(chan bool), make(chan bool), make(chan bool)
	var once sync.Once
	first := openLog(t, s, identity(1), log.Config{Notify: func(log.Positions, error) {
		once.Do(func() { // in the round, between its two logs
			close(written)
			<-filed
		})
	}})
	second := openLog(t, s, identity(2), log.Config{})
	for _, l := range []*log.Log{first, second} {
		appendN(t, l, 0, 1)
		l.Ask(wire.LevelOS)
	}
	disk.rename["/data/checkpoint"] = func() {
		delete(disk.rename, "/data/checkpoint")
		go func() {
			s.Round()
			close(done)
		}()
		<-written
	}
	disk.open["/data/checkpoint.reserve"] = func() {
		delete(disk.open, "/data/checkpoint.reserve")
		close(filed)
	}
	require.NoError(t, s.Checkpoint())
	<-done
	l := openLog(t, s, identity(3), log.Config{})
	for i := range uint64(20) {
		appendN(t, l, 60*i, 60)
		require.NoError(t, l.Sync())
		require.NoError(t, s.Checkpoint())
	}
	require.LessOrEqual(t, len(commitFiles(disk.Disk)), 2)
	require.NoError(t, s.Close())
}

// Nothing of a torn chunk counts. Its log may have nothing to file after a restart, and get nothing for ever.
func TestATornChunkKeepsNoFile(t *testing.T) {
	for _, filed := range []uint64{0, 5} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		if filed > 0 {
			appendN(t, l, 0, filed)
			require.NoError(t, l.Sync())
			require.NoError(t, s.Checkpoint())
		}
		appendN(t, l, filed, 5)
		l.Flush(wire.LevelOS)
		s.Round()
		s.Drop()
		disk = disk.Clone()
		tearChunk(t, disk, identity(1), int(min(filed, 1)))
		s = openStill(t, disk)
		require.Equal(t, filed+1, openLog(t, s, identity(1), log.Config{}).Positions().NextIndex)
		busy := openLog(t, s, identity(2), log.Config{})
		for i := range uint64(20) {
			appendN(t, busy, 60*i, 60)
			require.NoError(t, busy.Sync())
			require.NoError(t, s.Checkpoint())
		}
		require.LessOrEqual(t, len(commitFiles(disk)), 2)
		require.NoError(t, s.Close())
	}
}
