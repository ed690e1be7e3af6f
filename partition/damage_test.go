package partition

import (
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// spoil opens the log of a partition without its owner and has it keep a state, or appends a state
// entry.
func spoil(t *testing.T, dir string, id wire.Identity, state, entry []byte) {
	t.Helper()
	s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 64 << 20})
	require.NoError(t, err)
	var l *log.Log
	c := log.Config{}
	if state != nil {
		c.State = func() ([]byte, uint64) { return state, l.Positions().NextIndex - 1 }
	}
	l, err = s.OpenLog(id, c)
	require.NoError(t, err)
	require.NoError(t, l.Replay(func(wire.Entry) error { return nil }))
	if entry == nil {
		entry = group.New().AppendSnapshot(nil)
	}
	_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: term, Payload: wire.AppendPayload(nil, entry)})
	require.NoError(t, err)
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Close())
}

func TestAPartitionWithDamagedStateIsSetAside(t *testing.T) {
	nonsense := []byte("this is no state of anybody")
	for name, spoilt := range map[string]struct{ state, entry []byte }{
		"consumers": {state: nonsense},
		"producers": {state: append([]byte(envelopeMark), 1, 0xff, 0xff)},
		"entry":     {entry: nonsense[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			n := openNode(t, t.TempDir(), Options{})
			topic := n.create("orders", 2)
			for _, p := range topic.Partitions() {
				publish(t, p, "a", "b")
			}
			id := topic.Partition(0).Identity()
			n.close()
			spoil(t, n.dir, id, spoilt.state, spoilt.entry)
			bad := checkStates(t, n.dir)
			require.Equal(t, spoilt.state != nil, slices.Contains(bad, id))

			for range 2 { // a broker that ran and ended normally leaves the damage as it is
				n.open()
				p := n.Topic("orders").Partition(0)
				code(t, wire.CodeReadOnly, p.Err())
				var b wire.BatchBuilder
				b.Add(wire.Record{Value: []byte("c")})
				batch, err := wire.ParseBatch(b.Bytes())
				require.NoError(t, err)
				_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
				require.ErrorContains(t, err, "consumer state cannot be read")
				_, err = p.Commit("group", 1, 0, time.Now())
				require.ErrorContains(t, err, "consumer state cannot be read")
				require.Equal(t, wire.StatusReadOnly, p.info().Status)
				require.Equal(t, uint64(2), p.info().Next, "its messages are there")
				require.Equal(t, 1, n.store.Stats().ReadOnly)

				other := n.Topic("orders").Partition(1)
				require.NoError(t, other.Err())
				publish(t, other, "c")
				require.NoError(t, n.store.Checkpoint())
				n.close()
				require.Equal(t, bad, checkStates(t, n.dir))
			}
			n.open()
			require.NoError(t, n.Delete("orders"))
			publish(t, n.create("orders", 1).Partition(0), "again")
		})
	}
}

// checkStates returns the partitions whose state in the checkpoint cannot be read.
func checkStates(t *testing.T, dir string) (bad []wire.Identity) {
	t.Helper()
	for it, err := range log.Inspect(dir) {
		require.NoError(t, err)
		if it.Kind == log.ItemLog && CheckState(it.Identity, it.State) != nil {
			bad = append(bad, it.Identity)
		}
	}
	return bad
}

// Scheduled messages that cannot be read stay where they are. Whoever asks for them is told so, and is not asked to try
// again for ever.
func TestAScheduleThatCannotBeReadIsSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		entry []byte
		says  string
	}{
		"damaged": {[]byte{entryFired, 0x80}, errScheduleEntry.Error()},
		"newer":   {[]byte{entryGroup + 1}, log.ErrVersion.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			n := openNode(t, t.TempDir(), Options{})
			p := n.create("jobs", 1).Partition(0)
			id := later(t, p, time.Hour, "a")[0]
			n.close()
			spoil(t, n.dir, companionID(p.Identity()), nil, c.entry)

			for range 2 {
				n.open()
				p = n.Topic("jobs").Partition(0)
				require.Eventually(t, func() bool { return p.ScheduleFailure() != nil }, 10*time.Second, time.Millisecond)
				require.ErrorContains(t, p.ScheduleFailure(), c.says)
				_, err := p.Schedule([]ScheduleItem{{Due: p.ScheduleTime().Add(time.Hour).UnixMilli(), Batch: batchOf(t, "b")}}, wire.Producer{})
				code(t, wire.CodeReadOnly, err)
				_, _, err = p.Scheduled(0, 0, 0, 10, 1<<20)
				code(t, wire.CodeReadOnly, err)
				_, _, _, err = p.CancelScheduled([]uint64{id})
				code(t, wire.CodeReadOnly, err)
				require.Equal(t, 1, n.store.Stats().ReadOnly)
				publish(t, p, "c")
				require.NoError(t, n.store.Checkpoint())
				n.close()
			}
			n.open()
			require.NoError(t, n.Delete("jobs"))
			require.Zero(t, n.store.Stats().ReadOnly)
		})
	}
}

// unreadableFS is a disk some files of which cannot be read for a while: those with part in their paths.
type unreadableFS struct {
	*faultfs.Disk
	part    string
	bad     atomic.Bool
	refused atomic.Int64
}

func (f *unreadableFS) Open(name string, write, create bool) (log.File, error) {
	file, err := f.Disk.Open(name, write, create)
	if err != nil || !strings.Contains(name, f.part) {
		return file, err
	}
	return &unreadableFile{file, f}, nil
}

type unreadableFile struct {
	log.File
	fs *unreadableFS
}

func (f *unreadableFile) ReadAt(b []byte, off int64) (int, error) {
	if f.fs.bad.Load() {
		f.fs.refused.Add(1)
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, off)
}

// start opens what the disk holds.
func (f *unreadableFS) start(t *testing.T, clock *fakeTime) (*log.Store, *Registry) {
	s, err := log.Open(log.Options{FS: f, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	require.NoError(t, err)
	r, err := Open(s, true, Options{Now: clock.Now})
	require.NoError(t, err)
	return s, r
}

// schedule stores a topic with a message that is due in an hour.
func (f *unreadableFS) schedule(t *testing.T, clock *fakeTime) {
	s, r := f.start(t, clock)
	_, err := r.Create("jobs", 1, nil)
	require.NoError(t, err)
	later(t, r.Topic("jobs").Partition(0), time.Hour, "a")
	require.NoError(t, s.Checkpoint())
	r.Close()
	require.NoError(t, s.Close())
}

// A failure of the device passes, and so does what it keeps from being read.
func TestAScheduleIsReadWhenThatIsPossible(t *testing.T) {
	disk := &unreadableFS{Disk: faultfs.New(), part: "-2147483648/"}
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk.schedule(t, clock)
	disk.bad.Store(true)
	s, r := disk.start(t, clock)
	p := r.Topic("jobs").Partition(0)
	eventually(t, func() bool { return p.ScheduleFailure() != nil })
	require.ErrorContains(t, p.ScheduleFailure(), syscall.EIO.Error())
	require.Equal(t, 1, r.SchedulerStats().Unread)
	item := []ScheduleItem{{Due: clock.Now().Add(time.Hour).UnixMilli(), Batch: batchOf(t, "b")}}
	_, err := p.Schedule(item, wire.Producer{})
	code(t, wire.CodeReadOnly, err)
	disk.bad.Store(false)
	clock.add(loadRetry)
	eventually(t, func() bool { return p.ScheduleFailure() == nil })
	require.Zero(t, r.SchedulerStats().Unread)
	together(t, p, item)
	clock.add(time.Hour)
	eventually(t, func() bool { return p.Visible() == 2 })
	require.ElementsMatch(t, []string{"a", "b"}, values(t, p, 0))
	r.Close()
	require.NoError(t, s.Close())
}

// A message that the system fails to read when it is due is published later.
func TestAScheduledMessageIsReadWhenThatIsPossible(t *testing.T) {
	disk := &unreadableFS{Disk: faultfs.New(), part: "-2147483648/"}
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk.schedule(t, clock)
	s, r := disk.start(t, clock)
	p := r.Topic("jobs").Partition(0)
	eventually(t, func() bool { n, err := waiting(p); return err == nil && n == 1 })
	disk.bad.Store(true)
	clock.add(time.Hour)
	opened := disk.refused.Load()
	eventually(t, func() bool { return disk.refused.Load() > opened })
	disk.bad.Store(false)
	later(t, p, time.Second, "b")
	clock.add(loadRetry)
	eventually(t, func() bool { return p.Visible() == 2 })
	require.ElementsMatch(t, []string{"a", "b"}, values(t, p, 0))
	r.Close()
	require.NoError(t, s.Close())
}

// waiting returns how many scheduled messages of p wait.
func waiting(p *Partition) (int, error) {
	_, total, err := p.Scheduled(0, 0, 0, 1, 1)
	return total, err
}
