package partition

import (
	"errors"
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

// node is a registry over a store that can be closed and opened again.
type node struct {
	t     *testing.T
	dir   string
	opts  Options
	store *log.Store
	*Registry
}

func openNode(t *testing.T, dir string, o Options) *node {
	t.Helper()
	n := &node{t: t, dir: dir, opts: o}
	n.open()
	t.Cleanup(n.close)
	return n
}

func (n *node) open() {
	n.t.Helper()
	var err error
	n.store, err = log.Open(log.Options{
		Dir: n.dir, MemoryBytes: 64 << 20, CommitFileBytes: 1 << 20, Now: n.opts.Now, RetentionInterval: 10 * time.Millisecond,
	})
	require.NoError(n.t, err)
	n.Registry, err = Open(n.store, n.dir != "", n.opts)
	require.NoError(n.t, err)
}

func (n *node) close() {
	if n.Registry == nil {
		return
	}
	n.Registry.Close()
	require.NoError(n.t, n.store.Close())
	n.Registry = nil
}

func (n *node) reopen() {
	n.close()
	n.open()
}

func (n *node) create(name string, partitions int, kv ...string) *Topic {
	n.t.Helper()
	t, err := n.Create(name, partitions, pairs(kv...))
	require.NoError(n.t, err)
	return t
}

func pairs(kv ...string) (s []wire.Setting) {
	for i := 0; i < len(kv); i += 2 {
		s = append(s, wire.Setting{Key: kv[i], Value: kv[i+1]})
	}
	return s
}

// publish appends records and waits until they are visible.
func publish(t *testing.T, p *Partition, values ...string) uint64 {
	t.Helper()
	return publishAt(t, p, time.Now(), values...)
}

func publishAt(t *testing.T, p *Partition, now time.Time, values ...string) uint64 {
	t.Helper()
	var b wire.BatchBuilder
	for _, v := range values {
		b.Add(wire.Record{Key: []byte("k-" + v), Value: []byte(v)})
	}
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	base, _, _, err := p.Publish(&batch, now.UnixMilli())
	require.NoError(t, err)
	p.Flush(p.topic.Config().Level)
	eventually(t, func() bool { return p.Visible() >= base+uint64(len(values)) })
	return base
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// values reads every visible value from an offset on.
func values(t *testing.T, p *Partition, offset uint64) (got []string) {
	t.Helper()
	for _, r := range records(t, p, offset) {
		got = append(got, string(r.Value))
	}
	return got
}

func records(t *testing.T, p *Partition, offset uint64) (got []wire.Record) {
	t.Helper()
	for offset < p.Visible() {
		var c log.Chunk
		require.NoError(t, p.ReadCold(&c, offset, 1<<20))
		for _, b := range c.Slices {
			for len(b) > 0 {
				e, rest, err := wire.ViewEntry(b)
				require.NoError(t, err)
				got = append(got, recordsOf(t, &e, offset)...)
				b = rest
			}
		}
		require.Greater(t, c.Next, offset)
		offset = c.Next
		c.Release()
	}
	return got
}

// recordsOf returns copies of an entry's records from an offset on.
func recordsOf(t *testing.T, e *wire.Entry, from uint64) (got []wire.Record) {
	t.Helper()
	batch, err := wire.ViewBatch(e.Payload)
	require.NoError(t, err)
	at := e.BaseOffset
	for r, err := range batch.Records() {
		require.NoError(t, err)
		if at >= from {
			r.Value = append([]byte(nil), r.Value...)
			r.Headers = append(wire.Headers(nil), r.Headers...)
			r.Key = append([]byte(nil), r.Key...)
			got = append(got, r)
		}
		at++
	}
	return got
}

func code(t *testing.T, want wire.Code, err error) *wire.Error {
	t.Helper()
	require.ErrorIs(t, err, want)
	return err.(*wire.Error)
}

func TestTopicsSurviveAReopen(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	orders := n.create("orders", 3, "durability", "os", "retention", "7d", "retention_bytes", "1GiB", "hash", "murmur2")
	publish(t, orders.Partition(2), "a", "b")
	_, err := n.Alter("orders", 5, pairs("retention_count", "100"))
	require.NoError(t, err)
	n.create("gone", 1)
	require.NoError(t, n.Delete("gone"))
	before := orders.Info()
	n.reopen()

	after := n.Topic("orders").Info()
	require.Equal(t, before.ID, after.ID)
	require.Equal(t, before.Settings, after.Settings)
	require.Contains(t, after.Settings, wire.Setting{Key: "retention", Value: "168h"})
	require.Len(t, after.Partitions, 5)
	require.Equal(t, []string{"a", "b"}, values(t, n.Topic("orders").Partition(2), 0))
	require.Nil(t, n.Topic("gone"))
	require.Len(t, n.Topics(), 1)
}

func TestADeletedTopicComesBackEmptyWithAnotherIdentity(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	first := n.create("orders", 1)
	publish(t, first.Partition(0), "old")
	require.NoError(t, n.Delete("orders"))
	code(t, wire.CodeTopicDeleted, first.Partition(0).Err())
	code(t, wire.CodeTopicNotFound, n.Delete("orders"))
	second := n.create("orders", 1)
	require.NotEqual(t, first.ID(), second.ID())
	n.reopen()
	require.Zero(t, n.Topic("orders").Partition(0).Visible())
	require.Equal(t, uint64(0), publish(t, n.Topic("orders").Partition(0), "new"))
}

func TestPurgeMovesTheStartForGood(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("orders", 1).Partition(0)
	publish(t, p, "a")
	publish(t, p, "b")
	publish(t, p, "c")
	require.NoError(t, n.Purge("orders", wire.AnyPartition, 2))
	n.reopen()
	p = n.Topic("orders").Partition(0)
	require.Equal(t, uint64(2), p.First())
	require.Equal(t, []string{"c"}, values(t, p, 2))
	var c log.Chunk
	e := code(t, wire.CodeOffsetOutOfRange, p.ReadCold(&c, 0, 100))
	require.Equal(t, []uint64{2, 3}, []uint64{e.First, e.Next})
	code(t, wire.CodePartitionNotFound, n.Purge("orders", 7, 0))
}

func TestBadTopicsAreRefusedWithTheReason(t *testing.T) {
	n := openNode(t, "", Options{MaxPartitions: 10})
	f := func(want wire.Code, text, name string, partitions int, kv ...string) {
		t.Helper()
		_, err := n.Create(name, partitions, pairs(kv...))
		require.Contains(t, code(t, want, err).Detail, text)
	}
	f(wire.CodeInvalid, "1 to 255 bytes", "", 1)
	f(wire.CodeInvalid, "1 to 255 bytes", strings.Repeat("a", 256), 1)
	f(wire.CodeInvalid, "empty token", "a..b", 1)
	f(wire.CodeInvalid, "empty token", ".a", 1)
	f(wire.CodeInvalid, "empty token", "../etc", 1)
	f(wire.CodeInvalid, "not allowed", "etc/passwd", 1)
	f(wire.CodeInvalid, "not allowed", "a b", 1)
	f(wire.CodeInvalid, "not allowed", "orders.>", 1)
	f(wire.CodeInvalid, "not allowed", "a\x00b", 1)
	f(wire.CodeInvalid, "1 to 1024", "a", 2000)
	f(wire.CodeInvalid, "unknown topic setting \"colour\"", "a", 1, "colour", "red")
	f(wire.CodeInvalid, "retention:", "a", 1, "retention", "soon")
	f(wire.CodeInvalid, "hash:", "a", 1, "hash", "md5")
	f(wire.CodeInvalid, "segment_bytes:", "a", 1, "segment_bytes", "12")
	f(wire.CodeInvalid, "max_record_bytes:", "a", 1, "max_record_bytes", "16MiB")
	f(wire.CodeUnsupported, "data directory", "a", 1, "durability", "disk")
	f(wire.CodeLimit, "10 partitions", "a", 11)
	n.create("b", 2)
	f(wire.CodeTopicExists, "exists", "b", 2)
	_, err := n.Alter("b", 1, nil)
	code(t, wire.CodeInvalid, err)
	_, err = n.Alter("c", 1, nil)
	code(t, wire.CodeTopicNotFound, err)
}

func TestABrokerThatOwnsOnePartitionRefusesTheOthers(t *testing.T) {
	n := openNode(t, "", Options{Own: 1, Total: 3})
	topic := n.create("orders", 0)
	require.Len(t, topic.Partitions(), 3)
	publish(t, topic.Partition(1), "mine")
	e := code(t, wire.CodeNotOwner, topic.Partition(2).Err())
	require.Contains(t, e.Detail, "partition 1 of 3")
	_, _, _, err := topic.Partition(0).Publish(&wire.Batch{}, 0)
	code(t, wire.CodeNotOwner, err)
	require.Equal(t, wire.StatusForeign, topic.Info().Partitions[0].Status)
}

func TestConsumersSeeOnlyWhatTheTopicsLevelAllows(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("orders", 1).Partition(0)
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: []byte("x")})
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	_, index, _, err := p.Publish(&batch, 1)
	require.NoError(t, err)
	require.Equal(t, uint64(1), p.Next())
	require.Zero(t, p.Visible(), "nothing was flushed")
	fired := make(chan struct{}, 1)
	w := NewWatcher(func() { fired <- struct{}{} })
	p.Watch(w)
	w.Arm()
	p.Flush(wire.LevelDisk)
	for !p.Reached(index, wire.LevelDisk) {
		<-fired
		w.Arm()
	}
	require.Equal(t, uint64(1), p.Visible())
	p.Unwatch(w)
}

func TestAHigherLevelTakesBackNothingThatWasVisible(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("orders", 1, "durability", "memory").Partition(0)
	publish(t, p, "a", "b", "c")
	least := make(chan uint64)
	stop := make(chan struct{})
	go func() {
		lowest := uint64(3)
		for {
			select {
			case <-stop:
				least <- lowest
				return
			default:
				lowest = min(lowest, p.Visible())
			}
		}
	}()
	for _, level := range []string{"os", "memory", "disk"} {
		_, err := n.Alter("orders", 0, pairs("durability", level))
		require.NoError(t, err)
	}
	close(stop)
	require.Equal(t, uint64(3), <-least)
	require.Equal(t, uint64(3), p.log.Positions().Durable, "and it is flushed")
	_, err := p.Commit("audit", 3, 0, time.Now())
	require.NoError(t, err)
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: []byte("d")})
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, 1)
	require.NoError(t, err)
	require.Equal(t, uint64(3), p.Visible(), "the new level counts for what comes")
}

// What was visible at the lower level stays so before anything has flushed it.
func TestWhatWasVisibleStaysSoUntilItIsFlushed(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic := n.create("orders", 1, "durability", "memory")
	p := topic.Partition(0)
	publish(t, p, "a", "b", "c")
	c, err := topic.Config().with(pairs("durability", "disk"))
	require.NoError(t, err)
	require.True(t, topic.configure(&c, topic.Partitions()))
	require.Equal(t, uint64(3), p.Visible())
}

// Retention would remove the latest records of keys that nobody has written for long.
func TestACompactedTopicKeepsTheLatestRecordsForEver(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	kv := []string{"retention", "1h", "retention_bytes", "5000", "retention_count", "7"}
	topic := n.create("orders", 1, append(kv, "cleanup", "compact")...)
	for range 2 {
		require.Equal(t, log.Retention{}, topic.Partition(0).log.Config().Retention)
		n.reopen()
		topic = n.Topic("orders")
	}
	_, err := n.Alter("orders", 0, pairs("cleanup", "delete"))
	require.NoError(t, err)
	require.Equal(t, log.Retention{Age: time.Hour, Bytes: 5000, Count: 7}, topic.Partition(0).log.Config().Retention)
}

func lease(t *testing.T, p *Partition, n int) []group.Lease {
	t.Helper()
	l, err := p.Lease(nil, "workers", n, 0, 1, time.Now())
	require.NoError(t, err)
	return l
}

func settle(t *testing.T, p *Partition, s Settlement) {
	t.Helper()
	_, lost, err := p.Settle("workers", s, time.Now())
	require.NoError(t, err)
	require.Zero(t, lost)
}

func TestQueuesAndCommitsSurviveAReopen(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a", "b", "c", "d")
	_, err := p.OpenQueue("workers", 0, QueuePolicy{}, time.Now())
	require.NoError(t, err)
	_, err = p.Commit("audit", 3, 0, time.Now())
	require.NoError(t, err)
	require.Len(t, lease(t, p, 3), 1)
	settle(t, p, Settlement{Op: wire.OpAck, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}, {First: 2, Count: 1, Attempt: 1}}})
	n.reopen()

	p = n.Topic("jobs").Partition(0)
	c, ok := p.Committed("audit")
	require.True(t, ok)
	require.Equal(t, uint64(3), c.Offset)
	var left []uint64
	for _, l := range lease(t, p, 10) {
		for i := range l.Count {
			left = append(left, l.First+uint64(i))
		}
	}
	require.ElementsMatch(t, []uint64{1, 3}, left, "what was leased and not acked comes back")
	infos := p.Groups(time.Now())
	require.Len(t, infos, 2)
	require.Equal(t, uint64(1), infos[0].Lag)
	require.Equal(t, uint64(2), infos[1].Lag)
}

func TestDeadLettersGoToTheirTopicWithTheReason(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "good", "bad", "worse")
	_, err := p.OpenQueue("workers", 0, QueuePolicy{MaxDeliveries: 1}, time.Now())
	require.NoError(t, err)
	lease(t, p, 10)
	settle(t, p, Settlement{Op: wire.OpAck, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: 1, Count: 1, Attempt: 1}}, Reason: "no such user"})
	settle(t, p, Settlement{Op: wire.OpNack, Ranges: []group.Settle{{First: 2, Count: 1, Attempt: 1}}, Delay: -1, Reason: "smtp timeout"})
	dead := func() *Topic { return n.Topic("jobs.workers.dlq") }
	eventually(t, func() bool { return dead() != nil && dead().Partition(0).Visible() == 2 })
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })

	got := records(t, dead().Partition(0), 0)
	require.Equal(t, "bad", string(got[0].Value))
	require.Equal(t, "k-bad", string(got[0].Key))
	header := func(r wire.Record, name string) string {
		v, ok := r.Headers.Get(name)
		require.True(t, ok, name)
		return string(v)
	}
	require.Equal(t, "no such user", header(got[0], wire.HeaderDeadReason))
	require.Equal(t, "jobs", header(got[0], wire.HeaderDeadTopic))
	require.Equal(t, "1", header(got[0], wire.HeaderDeadOffset))
	require.Equal(t, "0", header(got[0], wire.HeaderDeadPartition))
	require.Equal(t, "workers", header(got[0], wire.HeaderDeadGroup))
	require.Equal(t, "smtp timeout", header(got[1], wire.HeaderDeadReason))
	require.Equal(t, "1", header(got[1], wire.HeaderDeadAttempts))
	for _, name := range []string{wire.HeaderDeadFirst, wire.HeaderDeadLast} {
		_, err = time.Parse(time.RFC3339Nano, header(got[1], name))
		require.NoError(t, err)
	}
	n.reopen()
	require.Empty(t, lease(t, n.Topic("jobs").Partition(0), 10), "dead letters are done")
	require.Equal(t, uint64(2), dead().Partition(0).Visible(), "and are not buried twice")
}

// Whatever the dedupe window of their topic: two queues give up one message, and later its copy.
func TestDeadLettersWithOneIDAreAllKept(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{Defaults: pairs("dedupe_window", "1h")})
	p := n.create("jobs", 1, "dedupe_window", "0").Partition(0)
	kept := uint64(0)
	for offset := range uint64(2) {
		_, _, _, err := p.Publish(withIDs(t, wire.Producer{}, "a"), time.Now().UnixMilli())
		require.NoError(t, err)
		require.NoError(t, p.log.Sync())
		for _, queue := range []string{"one", "two"} {
			_, err := p.OpenQueue(queue, 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
			require.NoError(t, err)
			leases, err := p.Lease(nil, queue, 1, 0, 1, time.Now())
			require.NoError(t, err)
			require.Len(t, leases, 1)
			_, lost, err := p.Settle(queue, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: offset, Count: 1, Attempt: 1}}}, time.Now())
			require.NoError(t, err)
			require.Zero(t, lost)
			kept++
			eventually(t, func() bool { return p.Stats().DeadLettered == kept })
		}
		n.reopen()
		p, kept = n.Topic("jobs").Partition(0), 0
	}
	dead := n.Topic("dead")
	require.Equal(t, time.Hour, dead.Config().DedupeWindow)
	require.Len(t, values(t, dead.Partition(0), 0), 4)
}

// What a deleted topic did not bury yet went with it.
func TestADeletedTopicBuriesNothing(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	n.create("picky", 1, "cleanup", "compact") // takes no message without a key
	publishPlain(t, p, "a")
	_, err := p.OpenQueue("workers", 0, QueuePolicy{DeadLetter: "picky"}, time.Now())
	require.NoError(t, err)
	lease(t, p, 1)
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	require.NoError(t, n.Delete("jobs"))
	require.NoError(t, n.Delete("picky"))
	require.NoError(t, p.bury(), "it is not tried again for ever")
	require.Nil(t, n.Topic("picky"), "and makes no dead-letter topic")
}

// publishPlain publishes a message without a key.
func publishPlain(t *testing.T, p *Partition, value string) {
	t.Helper()
	batch := batchOf(t, value)
	_, _, _, err := p.Publish(batch, time.Now().UnixMilli())
	require.NoError(t, err)
	p.Flush(p.topic.Config().Level)
	eventually(t, func() bool { return p.Visible() == p.Next() })
}

// failingFlush makes flushes of the commit log fail.
func failingFlush(op faultfs.Op, name string) error {
	if op == faultfs.OpSync && strings.Contains(name, "/commit/") {
		return syscall.EIO
	}
	return nil
}

// deadLetterNode is a registry with a queue of two messages and its dead-letter topic.
func deadLetterNode(t *testing.T, disk *faultfs.Disk) (r *Registry, p, dead *Partition) {
	t.Helper()
	s, r := faultyRegistry(t, disk)
	t.Cleanup(func() {
		r.Close()
		_ = s.Close() // may say that logs are read-only
	})
	for _, name := range []string{"jobs", "jobs.workers.dlq", "broken"} {
		_, err := r.Create(name, 1, nil)
		require.NoError(t, err)
	}
	p = r.Topic("jobs").Partition(0)
	publish(t, p, "a", "b")
	_, err := p.OpenQueue("workers", 0, QueuePolicy{}, time.Now())
	require.NoError(t, err)
	require.NoError(t, p.log.Sync())
	lease(t, p, 2)
	return r, p, r.Topic("jobs.workers.dlq").Partition(0)
}

// After a crash the message would be delivered again, and be in the dead-letter topic all the same.
func TestAMessageIsBuriedWhenItsDeathIsDurable(t *testing.T) {
	disk := faultfs.New()
	_, p, dead := deadLetterNode(t, disk)
	disk.Fail(failingFlush)
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	eventually(t, func() bool { return p.Failure() != nil })
	require.Zero(t, dead.Next())
}

// One partition that refuses writes must not stop what has nothing to do with it.
func TestAReadOnlyPartitionHoldsUpNoDeadLettersOfOthers(t *testing.T) {
	disk := faultfs.New()
	r, p, dead := deadLetterNode(t, disk)
	broken := r.Topic("broken").Partition(0)
	disk.Fail(failingFlush)
	_, _, _, err := broken.Publish(batchOf(t, "x"), 1)
	require.NoError(t, err)
	require.Error(t, broken.log.Sync())
	disk.Fail(nil)
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	eventually(t, func() bool { return dead.Visible() == 1 && p.Groups(time.Now())[0].Dead == 0 })
	_, err = r.Alter("jobs", 2, nil)
	require.NoError(t, err)
	require.Len(t, r.Topic("jobs").Partitions(), 2)
}

// A crash, or a failure, comes when some dead letters are in their topic and not marked: the next burial finds
// them there. That holds when the clock was set back after they died.
func TestADeadLetterIsNotBuriedTwice(t *testing.T) {
	for published := range 4 {
		var setBack atomic.Int64
		n := openNode(t, t.TempDir(), Options{Now: func() time.Time { return time.Now().Add(-time.Duration(setBack.Load())) }})
		p := n.create("jobs", 1).Partition(0)
		publish(t, p, "a", "b", "c")
		_, err := p.OpenQueue("workers", 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
		require.NoError(t, err)
		graves := n.create("dead", 2)
		publish(t, graves.Partition(0), "something else")
		lease(t, p, 10)
		n.Registry.Close() // nobody buries
		for i := range uint64(3) {
			settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: i, Count: 1, Attempt: 1}}, Reason: "no"})
		}
		name, _, dead := p.nextDead()
		require.Len(t, dead, 3)
		setBack.Store(int64(2 * time.Hour))
		for i := range dead[:published] {
			require.NoError(t, p.buryOne(&deadReader{p: p}, graves, name, &dead[i]))
		}
		require.NoError(t, n.store.Close())
		n.Registry = nil
		for range 2 {
			n.open()
			p, graves = n.Topic("jobs").Partition(0), n.Topic("dead")
			eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
			got := append(values(t, graves.Partition(0), 0), values(t, graves.Partition(1), 0)...)
			require.ElementsMatch(t, []string{"something else", "a", "b", "c"}, got)
			n.close()
		}
	}
}

// A burial that cannot store one dead letter finds those that it has stored when it tries again.
func TestABurialThatFailsHalfWayBuriesNothingTwice(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	graves := n.create("dead", 2)
	open, shut := graves.Place([]byte("k-a")), graves.Partition(1)
	if open == shut {
		shut = graves.Partition(0)
	}
	second := "b"
	for graves.Place([]byte("k-"+second)) != shut {
		second += "b"
	}
	publish(t, p, "a", second)
	_, err := p.OpenQueue("workers", 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
	require.NoError(t, err)
	lease(t, p, 2)
	n.Registry.Close() // nobody else buries
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: 0, Count: 2, Attempt: 1}}})
	shut.log.Refuse(errors.New("broken"))
	for range 3 {
		code(t, wire.CodeReadOnly, p.bury())
		require.NoError(t, open.log.Sync())
		require.Equal(t, []string{"a"}, values(t, open, 0))
	}
	require.NoError(t, n.store.Close())
	n.Registry = nil
	n.open()
	eventually(t, func() bool { return n.Topic("jobs").Partition(0).Groups(time.Now())[0].Dead == 0 })
	graves = n.Topic("dead")
	got := append(values(t, graves.Partition(0), 0), values(t, graves.Partition(1), 0)...)
	require.ElementsMatch(t, []string{"a", second}, got)
}

func TestExpiredLeasesWakeWorkers(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a")
	_, err := p.OpenQueue("workers", 0, QueuePolicy{Lease: time.Millisecond, BackoffMin: time.Millisecond}, time.Now())
	require.NoError(t, err)
	require.Len(t, lease(t, p, 1), 1)
	var again []group.Lease
	eventually(t, func() bool { again = lease(t, p, 1); return len(again) == 1 })
	require.Equal(t, uint32(2), uint32(again[0].Attempt))
}

func TestGroupsOverTheLimitAreRefusedAndDoNotStopAReopen(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	for i := range group.MaxGroups {
		_, err := p.Commit("g"+strings.Repeat("x", i%200)+string(rune('a'+i/200%26))+string(rune('a'+i/5200)), 0, 0, time.Now())
		require.NoError(t, err)
	}
	_, err := p.Commit("one-more", 0, 0, time.Now())
	code(t, wire.CodeLimit, err)
	n.reopen()
	require.Len(t, n.Topic("jobs").Partition(0).Groups(time.Now()), group.MaxGroups)
}

// TestLagOnTheDiskHasItsAge reopens a partition, so that nothing of it is in memory.
func TestLagOnTheDiskHasItsAge(t *testing.T) {
	var shift atomic.Int64 // of the clock
	now := func() time.Time { return time.Unix(1_800_000_000+shift.Load(), 0) }
	n := openNode(t, t.TempDir(), Options{Now: now})
	p := n.create("orders", 1).Partition(0)
	publishAt(t, p, now(), "a", "b")
	shift.Add(100)
	publishAt(t, p, now(), "c")
	shift.Add(100)
	_, err := p.Commit("audit", 2, 0, now())
	require.NoError(t, err)
	_, err = p.Commit("late", 0, 0, now())
	require.NoError(t, err)
	n.close()
	n.open()
	p = n.Topic("orders").Partition(0)
	want := map[string]float64{"audit": 100, "late": 200}
	for _, g := range p.GroupsCold(now()) {
		require.Equal(t, want[g.Group], g.LagSeconds, g.Group)
	}
	require.Equal(t, int64(1_800_000_000), p.AppendTimeCold(0).Unix())
	require.Zero(t, p.AppendTimeCold(3))
	for _, g := range p.Groups(now()) {
		require.Zero(t, g.LagSeconds, "without reading the disk")
	}
}

func TestGenerationsAreNeverReturnedTwice(t *testing.T) {
	dir, seen := t.TempDir(), uint32(0)
	for range 3 {
		n := openNode(t, dir, Options{})
		for range 2 {
			first, err := n.Generations(100)
			require.NoError(t, err)
			require.Greater(t, first, seen)
			seen = first + 99
		}
		n.close()
	}
}

// The limit of all partitions counts what topics have now, also after a restart.
func TestTheLimitOfPartitionsCountsThoseThatExist(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{MaxPartitions: 10})
	full := func() {
		_, err := n.Create("more", 1, nil)
		require.ErrorIs(t, err, wire.CodeLimit)
	}
	n.create("a", 4)
	n.create("b", 3)
	for _, partitions := range []int{4, 6} {
		_, err := n.Alter("b", partitions, nil)
		require.NoError(t, err)
	}
	full()
	_, err := n.Alter("a", 5, nil)
	require.ErrorIs(t, err, wire.CodeLimit)
	n.reopen()
	full()
	require.NoError(t, n.Delete("a"))
	n.create("c", 4)
	full()
}

// A subject has one topic whatever the order in which topics are made, and while those that are bound to their name
// come and go.
func TestSubjectsOfNewTopicsDoNotOverlap(t *testing.T) {
	n := openNode(t, "", Options{})
	n.create("orders.eu", 1)
	refused := func(name, subjects string) {
		_, err := n.Create(name, 1, pairs("subjects", subjects))
		require.ErrorIs(t, err, wire.CodeInvalid, name)
		require.Nil(t, n.Topic(name))
	}
	refused("all", "orders.>")
	n.create("bills", 1, "subjects", "bills.*")
	refused("bills.eu", "")
	refused("eu", "*.eu")
	n.create("plain", 1)
	require.Equal(t, "bills", n.Bound([]byte("bills.us")).Name())
	require.Equal(t, "plain", n.Bound([]byte("plain")).Name())
	require.NoError(t, n.Delete("bills"))
	require.Nil(t, n.Bound([]byte("bills.us")))
	require.NoError(t, n.Delete("orders.eu"))
	n.create("all", 1, "subjects", "orders.>")
	n.create("bills.eu", 1)
}

func TestAWatcherOfANewQueueMayLookAtThePartition(t *testing.T) {
	p := openNode(t, "", Options{}).create("jobs", 1).Partition(0)
	found := make(chan bool, 1)
	w := NewWatcher(func() { found <- p.HasQueue("q") })
	p.Watch(w)
	w.Arm()
	go func() { _, _ = p.OpenQueue("q", 0, QueuePolicy{}, time.Now()) }()
	eventually(t, func() bool { return len(found) == 1 })
	require.True(t, <-found)
}

// What is wrong with a value of a setting is said, and what is right.
func TestValuesOfSettingsThatAreRefused(t *testing.T) {
	for _, s := range defaultConfig().settings() {
		_, err := defaultConfig().with(pairs(s.Key, ""))
		if s.Key == "subjects" { // it means the topic's own name
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, code(t, wire.CodeInvalid, err), s.Key)
	}
	_, err := defaultConfig().with(pairs("retention", ""))
	require.ErrorContains(t, err, "is empty")
	_, err = defaultConfig().with(pairs("retention_bytes", "1.5GiB"))
	require.ErrorContains(t, err, "whole number")
	require.ErrorContains(t, err, "GiB")
}
