package log_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/crc32c"
)

// survivors opens a store on a damaged disk and reads the log, going on behind every corrupt range.
// What it returns is intact: every checksum was checked.
func survivors(t *testing.T, disk *faultfs.Disk, id wire.Identity) (s *log.Store, l *log.Log, got map[uint64]wire.Entry, lost []log.CorruptError) {
	t.Helper()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l = openLog(t, s, id, log.Config{})
	got = make(map[uint64]wire.Entry)
	p := l.Positions()
	var c log.Chunk
	for offset := p.First; offset < p.Next; {
		err := l.ReadCold(&c, offset, p.Next, 4<<10)
		if bad, ok := errors.AsType[*log.CorruptError](err); ok {
			require.Equal(t, offset, bad.First)
			lost = append(lost, *bad)
		} else {
			require.NoError(t, err)
		}
		for _, e := range entries(t, id, &c) {
			e.Payload = append([]byte(nil), e.Payload...)
			got[e.Index] = e
		}
		require.Greater(t, c.Next, offset)
		offset = c.Next
		c.Release()
	}
	return s, l, got, lost
}

func commitFiles(d *faultfs.Disk) []string {
	var names []string
	for _, name := range d.Names() {
		if path.Dir(name) == "/data/commit" && strings.HasSuffix(name, ".log") {
			names = append(names, name)
		}
	}
	return names
}

// TestTornTailAtEveryByte damages the commit log behind every byte of its last chunks in four ways.
// None of these chunks was vouched for by a later one, so what is behind the damage is a torn tail.
func TestTornTailAtEveryByte(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 5)
	require.NoError(t, s.Sync())
	name := commitFiles(disk)[0]
	from := end(disk.Bytes(name))
	for i := range uint64(3) {
		_, _, err := l.Append(data(i, 1, 60+int(i)*30))
		require.NoError(t, err)
		l.Flush(wire.LevelOS)
		eventually(t, "written", func() bool { p := l.Positions(); return p.WrittenIndex == p.NextIndex })
	}
	whole := disk.Clone()
	all := readAll(t, l)
	require.NoError(t, s.Close())
	bytes := whole.Bytes(name)
	to := end(bytes)
	require.Greater(t, to, from+3*200)

	for cut := from; cut <= to; cut++ {
		for way, tear := range map[string]func(b []byte) []byte{
			"truncate": func(b []byte) []byte { return b[:cut] },
			"zeros":    func(b []byte) []byte { clear(b[cut:]); return b },
			"noise": func(b []byte) []byte {
				for i := cut; i < to; i++ {
					b[i] = byte(i*7 + 13)
				}
				return b
			},
			"stale": func(b []byte) []byte { copy(b[cut:to], bytes[4096:]); return b },
		} {
			torn := whole.Clone()
			torn.SetBytes(name, tear(append([]byte(nil), bytes...)))
			requireUndamaged(t, torn, way)
			s, l, got, lost := survivors(t, torn, identity(1))
			require.Empty(t, lost, way)
			next := l.Positions().NextIndex
			require.GreaterOrEqual(t, next, uint64(6), way)
			require.Len(t, got, int(next-1), way)
			for i := uint64(1); i < next; i++ {
				require.Equal(t, all[i-1], got[i], way)
			}
			if cut >= to-80 {
				require.Equal(t, uint64(9), next, "the tail copy alone may be missing")
			}
			appendN(t, l, 50, 1)
			require.NoError(t, s.Sync())
			want := readAll(t, l)
			s.Drop()
			requireUndamaged(t, torn, way)
			s, l, _, lost = survivors(t, torn, identity(1))
			require.Empty(t, lost)
			require.Equal(t, want, readAll(t, l), "the cut tail must not come back")
			s.Drop()
		}
	}
}

// requireUndamaged checks that Verify takes no torn tail for damage. A file that somebody truncated is damaged.
func requireUndamaged(t *testing.T, disk *faultfs.Disk, way string) {
	t.Helper()
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.True(t, r.OK() || way == "truncate", "%s: %v", way, r.Damage)
}

// end returns the position behind the last byte that is not zero.
func end(b []byte) int {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return n
}

// damagedDisk returns a disk with every kind of file: sealed segments, an active one, a checkpoint,
// and a commit log with entries that are marked as durable.
func damagedDisk(t *testing.T) (*faultfs.Disk, []wire.Entry) {
	t.Helper()
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 60)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 60, 20)
	require.NoError(t, s.Sync())
	appendN(t, l, 80, 20)
	require.NoError(t, s.Sync())
	newest := func() int { names := commitFiles(disk); return end(disk.Bytes(names[len(names)-1])) }
	before := newest()
	eventually(t, "mark", func() bool { return newest() > before+100 })
	all := readAll(t, l)
	after := disk.Clone()
	require.NoError(t, s.Close())
	return after, all
}

// TestOneFlippedBitCostsAtMostOneBatch flips one bit at a time in every file.
func TestOneFlippedBitCostsAtMostOneBatch(t *testing.T) {
	disk, all := damagedDisk(t)
	reported := 0
	for _, name := range disk.Names() {
		bytes := disk.Bytes(name)
		step := 1
		if len(bytes) > 1000 {
			step = 1 + len(bytes)/60
		}
		for pos := 0; pos < end(bytes); pos += step {
			b := append([]byte(nil), bytes...)
			b[pos] ^= 1 << (pos % 8)
			flipped := disk.Clone()
			flipped.SetBytes(name, b)
			s, l, got, lost := survivors(t, flipped, identity(1))
			require.Equal(t, all[len(all)-1].NextOffset(), l.Positions().Next, "%s at %d: offsets move", name, pos)
			missing := 0
			for _, want := range all {
				if e, ok := got[want.Index]; ok {
					require.Equal(t, want, e)
				} else {
					missing++
				}
			}
			require.LessOrEqual(t, missing, 1, "%s at %d", name, pos)
			require.Len(t, lost, missing, "%s at %d", name, pos)
			if missing > 0 {
				reported++
				require.Equal(t, 1, l.Stats().Corrupt)
				appendN(t, l, 100, 1) // the store is usable
				require.NoError(t, s.Checkpoint())
			}
			s.Drop()
		}
	}
	require.Greater(t, reported, 50)
}

func TestMissingFilesAreReportedAndCostOnlyThemselves(t *testing.T) {
	disk, all := damagedDisk(t)
	for _, name := range disk.Names() {
		if path.Base(name) == "LOCK" {
			continue
		}
		less := disk.Clone()
		less.Delete(name)
		verified, err := log.VerifyFS(less, "/data")
		require.NoError(t, err)
		s, l, got, lost := survivors(t, less, identity(1))
		for _, e := range got {
			require.Equal(t, all[e.Index-1], e)
		}
		// That the newest commit log file is missing cannot be known when no checkpoint followed it.
		if names := commitFiles(disk); len(got) < len(all) && name != names[len(names)-1] {
			require.NotZero(t, len(lost)+int(s.Stats().Damage), name)
			require.NotEmpty(t, verified.Damage, name)
		}
		appendN(t, l, 100, 5)
		require.NoError(t, s.Close())
		s, _, _, _ = survivors(t, less, identity(1))
		require.NoError(t, s.Close())
	}
}

func TestMisdirectedSegmentIsFound(t *testing.T) {
	disk, all := damagedDisk(t)
	s := open(t, small(disk))
	l := openLog(t, s, identity(2), log.Config{})
	appendN(t, l, 0, 60)
	require.NoError(t, s.Close())
	var foreign []byte
	for _, name := range disk.Names() {
		if strings.Contains(name, "/02010203") && strings.Contains(name, "/00000000000000000000-") {
			foreign = disk.Bytes(name)
		}
	}
	require.NotEmpty(t, foreign)
	for _, name := range disk.Names() {
		if strings.Contains(name, "/01010203") && strings.Contains(name, "/00000000000000000000-") {
			disk.SetBytes(name, foreign)
		}
	}
	s, _, got, lost := survivors(t, disk, identity(1))
	require.NotEmpty(t, lost)
	for _, e := range got {
		require.Equal(t, all[e.Index-1], e)
	}
	require.NoError(t, s.Close())
}

func TestNewerFormatIsRefused(t *testing.T) {
	disk, _ := damagedDisk(t)
	for _, name := range disk.Names() {
		if path.Base(name) == "checkpoint" {
			disk.SetBytes(name, log.NewerCheckpoint())
		}
	}
	_, err := log.Open(small(disk))
	require.ErrorIs(t, err, log.ErrVersion)
	_, err = log.Open(small(disk))
	require.ErrorIs(t, err, log.ErrVersion, "a refused open releases the lock")
	_, err = log.VerifyFS(disk, small(disk).Dir)
	require.ErrorIs(t, err, log.ErrVersion, "not damaged")
}

// makeNewer makes a header one of the next format version.
func makeNewer(head []byte) {
	binary.LittleEndian.PutUint32(head[8:], 2)
	binary.LittleEndian.PutUint32(head[12:], 0)
	binary.LittleEndian.PutUint32(head[12:], crc32c.Checksum(head))
}

// A start that finds a newer version changes nothing: the newer one goes on as if there had been no such start.
func TestAStartThatIsRefusedChangesNothing(t *testing.T) {
	for name, refuse := range map[string]func(disk *faultfs.Disk, o *log.Options){
		"commit log": func(disk *faultfs.Disk, _ *log.Options) {
			last := commitFiles(disk)[len(commitFiles(disk))-1]
			b := disk.Bytes(last)
			makeNewer(b[:64])
			makeNewer(b[4096-64 : 4096])
			disk.SetBytes(last, b)
		},
		"state": func(_ *faultfs.Disk, o *log.Options) {
			o.RefuseState = func(id wire.Identity, state []byte) error {
				if id == identity(8) && string(state) == "state" {
					return log.ErrVersion
				}
				return nil
			}
		},
		"entry": func(_ *faultfs.Disk, o *log.Options) {
			o.RefuseEntry = func(id wire.Identity, e wire.Entry) error {
				if id == identity(8) && e.Kind == wire.KindState {
					return log.ErrVersion
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := interruptedDisk(t)
			o := small(disk)
			refuse(disk, &o)
			before := disk.Clone()
			_, err := log.Open(o)
			require.ErrorIs(t, err, log.ErrVersion)
			require.Equal(t, before.Names(), disk.Names())
			for _, name := range disk.Names() {
				require.True(t, bytes.Equal(before.Bytes(name), disk.Bytes(name)), name)
			}
		})
	}
}

// interruptedDisk returns a disk on which a start has much to do: files to remove, and a commit log to write again. Log 8
// has a state in the checkpoint, and an entry without records behind it.
func interruptedDisk(t *testing.T) *faultfs.Disk {
	disk, _ := damagedDisk(t)
	s := openStill(t, disk)
	l := openLog(t, s, identity(7), log.Config{})
	other := openLog(t, s, identity(8), log.Config{State: func() ([]byte, uint64) { return []byte("state"), 20 }})
	appendN(t, l, 0, 20)
	appendN(t, other, 0, 20)
	require.NoError(t, s.Checkpoint())
	disk.Fail(failOn(faultfs.OpRemove, "/partitions/", 1))
	require.Error(t, s.RemoveLogs(l.Identity()))
	disk.Fail(nil)
	b := data(20, 1, 50)
	b.Kind, b.Count = wire.KindState, 0
	_, _, err := other.Append(b)
	require.NoError(t, err)
	require.NoError(t, s.Sync())
	s.Drop()
	disk.SetBytes("/data/commit/00000000000000ff.tmp", []byte("x"))
	disk.SetBytes("/data/commit/00000000000000fe.spare", []byte("x"))
	return disk
}

// Without the checkpoint a start reads the last segments. It does not take those of a newer version for damage, which it
// would cut off.
func TestANewerSegmentIsRefusedWhenTheCheckpointIsLost(t *testing.T) {
	disk, _ := damagedDisk(t)
	segment := ""
	for _, name := range disk.Names() {
		switch {
		case path.Base(name) == "checkpoint":
			disk.Delete(name)
		case path.Ext(name) == ".seg":
			segment = name // the last of its log
		}
	}
	b := disk.Bytes(segment)
	makeNewer(b[:binary.LittleEndian.Uint32(b[36:])])
	disk.SetBytes(segment, b)
	_, err := log.Open(small(disk))
	require.ErrorIs(t, err, log.ErrVersion)
	require.ErrorContains(t, err, segment)
	require.Equal(t, b, disk.Bytes(segment))
}

// However short somebody makes a commit log file, between chunks or to nothing, what it loses is reported.
func TestACommitFileThatWasCutIsReported(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(20) {
		appendN(t, l, i*2, 2)
		l.Flush(wire.LevelDisk)
		s.Round()
	}
	s.Drop()
	names := commitFiles(disk)
	require.Len(t, names, 1)
	bytes := disk.Bytes(names[0])
	for cut := 0; cut < end(bytes); cut += 8 { // chunks are aligned
		short := disk.Clone()
		short.SetBytes(names[0], bytes[:cut])
		report, err := log.VerifyFS(short, "/data")
		require.NoError(t, err)
		require.False(t, report.OK(), cut)
		s, err := log.OpenStill(small(short))
		require.NoError(t, err)
		require.Positive(t, s.Stats().Damage, cut)
		s.Drop()
	}
}

// Commit log files whose names somebody mixed up are read as their headers say, and reported.
func TestCommitFilesWithNamesOfOthersAreFound(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(5) {
		appendN(t, l, i*50, 50)
		require.NoError(t, s.Sync())
	}
	want := readAll(t, l)
	s.Drop()
	names := commitFiles(disk)
	require.Greater(t, len(names), 2)
	for i := range names {
		for j := range i {
			mixed := disk.Clone()
			mixed.SetBytes(names[i], disk.Bytes(names[j]))
			mixed.SetBytes(names[j], disk.Bytes(names[i]))
			report, err := log.VerifyFS(mixed, "/data")
			require.NoError(t, err)
			require.False(t, report.OK())
			s, err := log.OpenStill(small(mixed))
			require.NoError(t, err)
			require.Positive(t, s.Stats().Damage)
			require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
			s.Drop()
		}
	}
}

func TestTruncatedFilesNeverPanic(t *testing.T) {
	disk, all := damagedDisk(t)
	for _, name := range disk.Names() {
		bytes := disk.Bytes(name)
		for cut := 0; cut < len(bytes); cut += 1 + len(bytes)/60 {
			short := disk.Clone()
			short.SetBytes(name, bytes[:cut])
			s, _, got, _ := survivors(t, short, identity(1))
			for _, e := range got {
				require.Equal(t, all[e.Index-1], e)
			}
			s.Drop()
		}
	}
}

// A reader that begins in the middle of damage finds a part of it. The records are lost once all the same.
func TestDamageThatIsFoundInPartsCountsOnce(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	for i := range 3 {
		_, _, err := l.Append(data(uint64(i), 10, 500))
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	for _, name := range disk.Names() {
		if strings.HasSuffix(name, ".seg") {
			b := disk.Bytes(name)
			b[700] ^= 1 // in the second entry
			disk.SetBytes(name, b)
		}
	}
	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	lost := func() uint64 { return l.Stats().Lost }
	for _, step := range []struct{ read, first, next, lost uint64 }{
		{15, 15, 20, 5}, {17, 17, 20, 5}, {12, 12, 20, 8}, {10, 10, 20, 10}, {11, 11, 20, 10},
	} {
		var c log.Chunk
		err := l.ReadCold(&c, step.read, 30, 1)
		c.Release()
		e, ok := errors.AsType[*log.CorruptError](err)
		require.True(t, ok, "%d: %v", step.read, err)
		require.Equal(t, []uint64{step.first, step.next}, []uint64{e.First, e.Next})
		require.Equal(t, step.lost, lost())
	}
	require.Equal(t, 1, l.Stats().Corrupt)
	require.NoError(t, l.TruncatePrefix(14))
	require.Equal(t, uint64(6), lost())
	require.NoError(t, l.TruncatePrefix(25))
	require.Zero(t, lost(), "they are not stored any more")
	s.Drop()
}

// filedDisk returns a disk with entries in segments only, the last of which is not sealed.
func filedDisk(t *testing.T) (disk *faultfs.Disk, segments []string, all []wire.Entry) {
	t.Helper()
	disk = faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 60)
	require.NoError(t, s.Checkpoint())
	all = readAll(t, l)
	s.Drop()
	for _, name := range disk.Names() {
		if path.Ext(name) == ".seg" {
			segments = append(segments, name)
		}
	}
	require.Greater(t, len(segments), 1)
	return disk, segments, all
}

// The last segment has no footer: without a checkpoint its entries are found one by one.
func TestWithoutACheckpointTheLastSegmentKeepsItsEntries(t *testing.T) {
	disk, _, all := filedDisk(t)
	disk.Delete("/data/checkpoint")
	for _, name := range commitFiles(disk) {
		disk.Delete(name)
	}
	s := openStill(t, disk)
	require.Equal(t, uint64(1), s.Stats().Damage)
	l := openLog(t, s, identity(1), log.Config{})
	require.Equal(t, all, readAll(t, l))
	require.NoError(t, s.Close())
}

// A checkpoint with no intact copy is as good as none.
func TestACheckpointWithTwoDamagedCopiesIsLost(t *testing.T) {
	disk, _, all := filedDisk(t)
	b := append([]byte(nil), disk.Bytes("/data/checkpoint")...)
	b[30] ^= 1
	b[len(b)/2+40] ^= 1
	disk.SetBytes("/data/checkpoint", b)
	for range 2 {
		s := openStill(t, disk)
		require.Equal(t, uint64(1), s.Stats().Damage)
		require.Equal(t, all, readAll(t, openLog(t, s, identity(1), log.Config{})))
		s.Drop()
		disk = disk.Clone()
	}
}

// Nothing is left of a chunk that was durable: it costs its own entries, not those behind.
func TestAChunkWithoutAnIntactHeaderCostsOnlyItself(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(4) {
		appendN(t, l, 3*i, 3)
		require.NoError(t, s.Sync())
	}
	all := readAll(t, l)
	s.Drop()
	nth := 0
	for it, err := range log.InspectFS(disk, "/data") {
		require.NoError(t, err)
		if it.Kind != log.ItemChunk || it.Identity != identity(1) {
			continue
		}
		if nth++; nth == 2 {
			b := append([]byte(nil), disk.Bytes("/data/"+it.Path)...)
			for i := it.Pos; i < it.Pos+it.Bytes; i++ {
				b[i] = 0xaa
			}
			disk.SetBytes("/data/"+it.Path, b)
		}
	}
	s, l, got, lost := survivors(t, disk, identity(1))
	require.Equal(t, uint64(1), s.Stats().Damage)
	require.Zero(t, s.Stats().TornTails)
	require.Len(t, got, len(all)-3)
	require.Equal(t, []uint64{all[3].BaseOffset, all[5].NextOffset()}, []uint64{lost[0].First, lost[len(lost)-1].Next})
	require.Equal(t, all[len(all)-1].NextOffset(), l.Positions().Next)
	require.NoError(t, s.Close())
}

// A disk that cannot read for now has lost nothing: a start fails, and so does a read, and both work later.
func TestAReadThatFailsIsNoDamage(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 20)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 20, 20)
	require.NoError(t, s.Sync())
	want := readAll(t, l)
	s.Drop()
	before := disk.Clone()

	breakReads := func(part string) {
		disk.FailReads(func(op faultfs.Op, name string) error {
			if op == faultfs.OpRead && strings.Contains(name, part) {
				return syscall.EIO
			}
			return nil
		})
	}
	for _, part := range []string{"/data/checkpoint", "/commit/"} {
		breakReads(part)
		_, err := log.OpenStill(small(disk))
		require.ErrorIs(t, err, syscall.EIO, part)
	}
	breakReads("/partitions/")
	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	var c log.Chunk
	require.ErrorIs(t, l.ReadCold(&c, 0, l.Positions().Next, 1<<20), syscall.EIO)
	require.Zero(t, l.Stats().Corrupt)
	s.Drop()
	disk.FailReads(nil)
	for _, name := range before.Names() {
		require.Equal(t, before.Bytes(name), disk.Bytes(name), name)
	}
	s = openStill(t, disk)
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	require.NoError(t, s.Close())
}

// Without a checkpoint, what was purged stays so as far as files went, and the owner gets the newest state of a header.
func TestWithoutACheckpointALogBeginsWithItsFirstSegment(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	var l *log.Log
	c := log.Config{State: func() ([]byte, uint64) {
		return []byte("a state of 33 bytes, not aligned."), l.Positions().NextIndex - 1
	}}
	l = openLog(t, s, identity(1), c)
	for i := range uint64(3) {
		appendN(t, l, i*60, 60)
		require.NoError(t, s.Checkpoint())
	}
	require.NoError(t, l.TruncatePrefix(l.Positions().Next/2))
	want := l.Positions()
	require.Greater(t, want.FirstIndex, uint64(1))
	all := readAll(t, l)
	s.Drop()
	disk.Delete("/data/checkpoint")
	for _, name := range commitFiles(disk) {
		disk.Delete(name)
	}

	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	got := l.Positions()
	require.Equal(t, []uint64{want.FirstIndex, want.NextIndex, want.Next}, []uint64{got.FirstIndex, got.NextIndex, got.Next})
	require.LessOrEqual(t, got.First, want.First)
	require.Positive(t, got.First)
	require.Equal(t, "a state of 33 bytes, not aligned.", string(l.State()))
	require.Equal(t, all, readFrom(t, l, want.First, want.Next))
	_, _, err := l.Append(data(180, 1, 10))
	require.NoError(t, err)
	require.NoError(t, s.Checkpoint())
	s.Drop()
	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, all, readFrom(t, l, want.First, want.Next))
	require.Equal(t, want.NextIndex+1, l.Positions().NextIndex)
	require.NoError(t, s.Close())
}

func TestASegmentThatWasCutKeepsWhatIsLeft(t *testing.T) {
	disk, segments, all := filedDisk(t)
	last := segments[len(segments)-1]
	b := disk.Bytes(last)
	disk.SetBytes(last, b[:end(b)-1]) // the last byte of its last entry
	s, l, got, lost := survivors(t, disk, identity(1))
	require.Positive(t, s.Stats().Damage)
	require.Len(t, got, len(all)-1)
	require.Len(t, lost, 1)
	require.Equal(t, all[len(all)-1].BaseOffset, lost[0].First)
	require.Equal(t, all[len(all)-1].NextOffset(), l.Positions().Next)
	require.NoError(t, s.Close())
}

// TestNothingIsWrittenBehindAFooter deletes the last segment. The one before is sealed, and stays so when the checkpoint
// was replaced and the store started again.
func TestNothingIsWrittenBehindAFooter(t *testing.T) {
	disk, segments, all := filedDisk(t)
	disk.Delete(segments[len(segments)-1])
	before := disk.Bytes(segments[len(segments)-2])
	s := openStill(t, disk)
	appendN(t, openLog(t, s, identity(2), log.Config{}), 0, 1)
	require.NoError(t, s.Checkpoint())
	s.Drop()
	s = openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	require.Equal(t, all[len(all)-1].NextOffset(), l.Positions().Next)
	appendN(t, l, 60, 10)
	require.NoError(t, s.Checkpoint())
	require.Equal(t, before, disk.Bytes(segments[len(segments)-2]))
	s.Drop()
	s, _, got, lost := survivors(t, disk, identity(1))
	require.Len(t, lost, 1)
	require.Len(t, got, len(all)+10-int(all[len(all)-1].Index+1-indexBehind(all, lost[0].First)))
	require.NoError(t, s.Close())
}

// indexBehind returns the index of the first entry that starts at offset or behind.
func indexBehind(all []wire.Entry, offset uint64) uint64 {
	for _, e := range all {
		if e.BaseOffset >= offset {
			return e.Index
		}
	}
	return all[len(all)-1].Index + 1
}

// A damaged copy of the checkpoint costs nothing, but it is damage: the next one may hit the other copy.
func TestDamageInEitherCopyOfTheCheckpointIsReported(t *testing.T) {
	disk, _, all := filedDisk(t)
	b := disk.Bytes("/data/checkpoint")
	for _, pos := range []int{30, len(b)/2 + 30} {
		flipped := disk.Clone()
		bad := append([]byte(nil), b...)
		bad[pos] ^= 1
		flipped.SetBytes("/data/checkpoint", bad)
		s, _, got, lost := survivors(t, flipped, identity(1))
		require.Equal(t, uint64(1), s.Stats().Damage, pos)
		require.Len(t, got, len(all))
		require.Empty(t, lost)
		require.NoError(t, s.Close())
	}
}

// The checkpoint names the commit log file that was written to when it was made.
func TestAMissingCommitFileThatTheCheckpointNeedsIsReported(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 10, 10)
	require.NoError(t, s.Sync())
	s.Drop()
	names := commitFiles(disk)
	require.Len(t, names, 1)
	disk.Delete(names[0])
	s, _, got, _ := survivors(t, disk, identity(1))
	require.Equal(t, uint64(1), s.Stats().Damage)
	require.Len(t, got, 10)
	require.NoError(t, s.Close())
}

// A start knows what the commit log has lost: nobody has to read it first.
func TestWhatTheCommitLogLostIsKnownAtOnce(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 3)
	require.NoError(t, s.Sync())
	appendN(t, l, 3, 1) // its chunk says that the one before is durable
	require.NoError(t, s.Sync())
	s.Drop()
	tearChunk(t, disk, identity(1), 0)
	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, uint64(1), s.Stats().LostEntries)
	require.Equal(t, 1, l.Stats().Corrupt)
	require.Equal(t, uint64(1), l.Stats().Lost)
	require.NoError(t, s.Close())
}

// A segment that somebody cuts short while it is open is damaged from there on, as it would be after a restart.
func TestASegmentThatIsCutWhileItIsOpen(t *testing.T) {
	base, segments, all := filedDisk(t)
	for _, name := range []string{segments[0], segments[len(segments)-1]} {
		for size := int64(0); size < int64(end(base.Bytes(name))); size += 499 {
			disk := base.Clone()
			s := openStill(t, disk)
			l := openLog(t, s, identity(1), log.Config{})
			require.Len(t, readAll(t, l), len(all))
			f, err := disk.Open(name, true, false)
			require.NoError(t, err)
			require.NoError(t, f.Truncate(size))

			_, _, want, _ := survivors(t, disk.Clone(), identity(1))
			lost := uint64(0)
			got := map[uint64]wire.Entry{}
			var c log.Chunk
			for at := uint64(0); at < l.Positions().Next; at = c.Next {
				err := l.ReadCold(&c, at, l.Positions().Next, 4<<10)
				if bad, ok := errors.AsType[*log.CorruptError](err); ok {
					require.Equal(t, name, bad.Path)
					require.LessOrEqual(t, bad.Pos, size)
					lost += bad.Next - bad.First
				} else {
					require.NoError(t, err)
				}
				for _, e := range entries(t, identity(1), &c) {
					e.Payload = bytes.Clone(e.Payload)
					got[e.Index] = e
				}
				c.Release()
			}
			require.True(t, reflect.DeepEqual(want, got), "%s cut to %d: %d entries, not %d", name, size, len(got), len(want))
			require.Equal(t, lost, l.Stats().Lost)
			require.NoError(t, s.Compact())
			s.Drop()
			r, err := log.VerifyFS(disk, "/data")
			require.NoError(t, err)
			require.NotEmpty(t, r.Damage)
		}
	}
}
