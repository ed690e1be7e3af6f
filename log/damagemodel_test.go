package log_test

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// damagedDirectory returns a directory with segments, a checkpoint and several commit log files, all of it durable and
// followed by a mark.
func damagedDirectory(t *testing.T) (disk *faultfs.Disk, entries int) {
	disk = faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 150)
	require.NoError(t, s.Checkpoint())
	other := openLog(t, s, identity(2), log.Config{})
	for i := range uint64(12) {
		appendN(t, l, 150+10*i, 10)
		appendN(t, other, 10*i, 10)
		require.NoError(t, s.Sync())
	}
	s.Drop()
	return disk, 150 + 120
}

// spoil damages a file: it is gone, cut short, or has zeros or a flipped bit in it.
func spoil(rng *rand.Rand, disk *faultfs.Disk, name string) {
	b := disk.Bytes(name)
	at := 0
	if len(b) > 0 {
		at = rng.IntN(len(b))
	}
	switch rng.IntN(4) {
	case 0:
		disk.Delete(name)
		return
	case 1:
		b = b[:at]
	case 2:
		clear(b[at:min(len(b), at+1+rng.IntN(5000))])
	default:
		if len(b) > 0 {
			b[at] ^= byte(1 << rng.IntN(8))
		}
	}
	disk.SetBytes(name, b)
}

// Whatever a start or a reader misses or finds damaged, verify has found, too, and nothing panics.
func TestModelOfDamagedDirectories(t *testing.T) {
	base, want := damagedDirectory(t)
	report, err := log.VerifyFS(base, "/data")
	require.NoError(t, err)
	require.True(t, report.OK())
	var names []string
	commits := commitFiles(base)
	newest := commits[len(commits)-1] // what it loses at its end leaves no trace
	for _, name := range base.Names() {
		ext := path.Ext(name)
		if name != newest && (ext == ".log" || ext == ".seg" || strings.HasSuffix(name, "/checkpoint")) {
			names = append(names, name)
		}
	}
	seeds.Each(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 21))
		disk := base.Clone()
		for range 1 + rng.IntN(2) {
			name := names[rng.IntN(len(names))]
			spoil(rng, disk, name)
		}
		report, err := log.VerifyFS(disk, "/data")
		require.NoError(t, err)
		for _, d := range report.Damage {
			require.NotEmpty(t, d.Path)
		}
		s, _, got, lost := survivors(t, disk, identity(1))
		defer s.Drop()
		worse := s.Stats().Damage > 0 || s.Stats().LostEntries > 0 || len(lost) > 0 || len(got) < want
		require.True(t, !worse || !report.OK())
	})
}
