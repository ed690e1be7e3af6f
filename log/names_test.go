package log_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// dieAt makes every operation fail from the first one on that matches.
func dieAt(op faultfs.Op, part string) func(faultfs.Op, string) error {
	dead := false
	return func(o faultfs.Op, name string) error {
		if dead = dead || o == op && strings.Contains(name, part); dead {
			return faultfs.ErrInjected
		}
		return nil
	}
}

// The name of a new data directory is durable before anything in it is acknowledged, whoever has created the directory.
func TestANewDirectorySurvivesAPowerCut(t *testing.T) {
	for _, dir := range []string{"/data", "/srv/rafka/data"} {
		for crash := range 8 {
			disk := faultfs.New()
			o := small(disk)
			o.Dir = dir
			disk.CrashAt(1 + crash) // the first start gets so far
			if s, err := log.OpenStill(o); err == nil {
				s.Drop()
			}
			disk = disk.Clone()
			o.FS = disk
			s, err := log.OpenStill(o)
			require.NoError(t, err)
			appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 10)
			require.NoError(t, s.Sync())
			cut := disk.PowerCut(rand.New(rand.NewPCG(uint64(crash), 9)))
			s.Drop()
			o.FS = cut
			s, err = log.OpenStill(o)
			require.NoError(t, err)
			require.Equal(t, 10, len(readAll(t, openLog(t, s, identity(1), log.Config{}))), "%s %d", dir, crash)
			s.Drop()
		}
	}
}

// A start does not remove what compaction has replaced before the name of what replaces it is durable.
func TestWhatAKilledCompactionReplacedStaysUntilTheOutputIsDurable(t *testing.T) {
	base := newCompacted(t)
	for i := range 150 {
		base.append(wire.CodecNone, 0, fmt.Sprint("key-", i%9), fmt.Sprint("value ", i, string(make([]byte, 90))))
	}
	require.NoError(t, base.s.Checkpoint())
	base.disk.Fail(dieAt(faultfs.OpSyncDir, "/partitions/"))
	require.Error(t, base.s.Compact())
	base.s.Drop()
	for i := range 40 {
		base.all = append(base.all, keyed{"more", fmt.Sprint(i), wire.CodecNone, base.now.UnixMilli(), 0})
	}
	for _, work := range []func(s *log.Store) error{(*log.Store).Compact, (*log.Store).Checkpoint} {
		for crash, dead := 1, true; dead; crash++ {
			c := &compacted{t: t, disk: base.disk.Clone(), now: base.now}
			c.open()
			for i := range 40 {
				c.append(wire.CodecNone, 0, "more", fmt.Sprint(i))
			}
			require.NoError(t, c.s.Sync())
			c.disk.CrashAt(crash)
			_ = work(c.s) // the disk may be gone
			dead = c.disk.Dead()
			c.s.Drop()
			killed := c.disk
			for seed := range uint64(8) {
				c.disk, c.all = killed.PowerCut(rand.New(rand.NewPCG(seed, 9))), base.all
				c.open()
				c.check()
				c.s.Drop()
			}
		}
	}
}

// A start without a checkpoint makes the names of the segments durable that it goes by.
func TestSegmentsOfALostCheckpointKeepTheirNames(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 5)
	require.NoError(t, s.Checkpoint())
	for i := range uint64(20) {
		appendN(t, l, 5+10*i, 10)
		require.NoError(t, s.Sync())
	}
	disk.Fail(dieAt(faultfs.OpSyncDir, "/partitions/"))
	require.Error(t, s.Checkpoint())
	s.Drop()
	disk = disk.Clone()
	disk.Delete("/data/checkpoint")
	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, 205, len(readAll(t, l)))
	appendN(t, openLog(t, s, identity(3), log.Config{}), 0, 300)
	require.NoError(t, s.Checkpoint()) // and the commit log is not needed any more
	for seed := range uint64(16) {
		s, _, got, _ := survivors(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 9))), identity(1))
		require.Equal(t, 205, len(got))
		s.Drop()
	}
	s.Drop()
}
