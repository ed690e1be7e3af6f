package group

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scenario returns commands of every kind, each with a fresh slice, that build on each other.
func scenario(t testing.TB) [][]byte {
	s := New()
	var log [][]byte
	do := func(cmd []byte) {
		require.NotNil(t, cmd)
		require.NoError(t, s.Apply(cmd))
		log = append(log, cmd)
	}
	first := func(cmd []byte, _ int) []byte { return cmd }
	do(AppendCommit(nil, "billing", 300, t0))
	do(AppendOpen(nil, "work", 2, Policy{MaxDeliveries: 2, DeadLetter: "graveyard"}))
	do(AppendOpen(nil, "idle", 1<<40, Policy{}))
	q := s.Queue("work")
	q.Lease(nil, 1000, 1000, 0, 1, t0)
	do(first(q.PlanAck(nil, []Settle{{9, 1, 1}, {3, 2, 1}})))
	do(first(q.PlanNack(nil, settle(10, 300, 1), -1, "busy", t0)))
	do(first(q.PlanNack(nil, settle(400, 2, 1), time.Second, "", t0)))
	do(first(q.PlanReject(nil, settle(500, 3, 1), "bad", t0.Add(time.Second))))
	do(q.PlanBuried(nil, []uint64{501}))
	do(first(q.PlanExpire(nil, t0.Add(time.Minute))))
	do(AppendCommit(nil, "gone", 1, t0))
	do(AppendPause(nil, "gone", true))
	do(AppendDrop(nil, "gone"))
	do(AppendPause(nil, "work", true))
	do(AppendPause(nil, "billing", true))
	do(AppendPause(nil, "billing", false))
	return log
}

func TestCommandsKeepTheirBytes(t *testing.T) {
	f := func(want string, cmd []byte) {
		t.Helper()
		require.Equal(t, want, hex.EncodeToString(cmd))
	}
	_, q := openQueue(t, Policy{})
	q.Lease(nil, 500, 500, 0, 1, t0)
	ack, _ := q.PlanAck(nil, []Settle{{9, 1, 1}, {3, 2, 1}, {5, 1, 1}})
	nack, _ := q.PlanNack(nil, settle(254, 4, 1), -1, "busy", t0)
	reject, _ := q.PlanReject(nil, settle(1, 2, 1), "bad", t0)
	f("0101026169"+"ac02"+"80d095ffbc31", AppendCommit(nil, "ai", 300, t0))
	f("0102026169", AppendDrop(nil, "ai"))
	f("0103026169"+"07"+"b0ea01"+"e807"+"e0a712"+"05"+"00", AppendOpen(nil, "ai", 7, Policy{}))
	f("010404776f726b"+"02000000"+"1201"+"0d03", ack)
	f("010504776f726b"+"80d095ffbc31"+"0462757379"+"02000000"+"fc0302019c08"+"0002018909", nack)
	f("010504776f726b"+"80d095ffbc31"+"03626164"+"01000000"+"02020100", reject)
	f("0107026169", AppendPause(nil, "ai", true))
	f("0108026169", AppendPause(nil, "ai", false))
	f("ff"+"010202"+"6169", AppendDrop([]byte{0xff}, "ai"))
}

func TestEveryCutOrLongerCommandIsRefused(t *testing.T) {
	s := New()
	for _, cmd := range scenario(t) {
		before := s.AppendSnapshot(nil)
		for n := range cmd {
			require.ErrorIs(t, s.Apply(cmd[:n:n]), errCommand, "%x cut to %d bytes", cmd, n)
		}
		require.ErrorIs(t, s.Apply(append(slices.Clone(cmd), 0)), errCommand)
		require.Equal(t, before, s.AppendSnapshot(nil))
		require.NoError(t, s.Apply(cmd))
	}
}

func TestApplyKeepsNoReferenceToTheCommand(t *testing.T) {
	s := New()
	for _, cmd := range scenario(t) {
		cmd = slices.Clone(cmd)
		require.NoError(t, s.Apply(cmd))
		for i := range cmd {
			cmd[i] = 0xdb
		}
	}
	want := New()
	for _, cmd := range scenario(t) {
		require.NoError(t, want.Apply(cmd))
	}
	require.Equal(t, want.AppendSnapshot(nil), s.AppendSnapshot(nil))
}

func TestDamagedCommandsAreRefusedAndChangeNothing(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 10, 10, 0, 1, t0)
	before, stats := s.AppendSnapshot(nil), q.Stats()
	f := func(why, cmd string) {
		t.Helper()
		b, err := hex.DecodeString(cmd)
		require.NoError(t, err)
		require.ErrorIs(t, s.Apply(b), errCommand, why)
		require.Equal(t, before, s.AppendSnapshot(nil))
		require.Equal(t, stats, q.Stats())
	}
	const work, at = "04776f726b", "80d095ffbc31"
	f("nothing", "")
	f("version 0", "0002"+work)
	f("kind 0", "0100"+work)
	f("kind 255", "01ff"+work)
	f("empty name", "010200")
	f("offset not in its shortest form", "0101"+work+"8000"+at)
	f("offset of 11 bytes", "0101"+work+"ffffffffffffffffffff01"+at)
	f("moment out of range", "0101"+work+"00"+"ffffffffffffffffff01")
	f("policy of zeros", "0103"+work+"00"+"0000000000")
	f("backoff upside down", "0103"+work+"00"+"0102010100")
	f("deliveries over the limit", "0103"+work+"00"+"010101e90700")
	f("dead-letter topic cut short", "0103"+work+"00"+"010101010261")
	f("no ranges", "0104"+work+"00000000")
	f("fewer ranges than counted", "0104"+work+"020000000001")
	f("more ranges than counted", "0104"+work+"0100000000010001")
	f("ranges over the limit", "0104"+work+"ffffffff0001")
	f("an empty range behind a good one", "0104"+work+"0200000000010000")
	f("a range over the end of all offsets", "0104"+work+"0100000001"+"ffffffffffffffffff01")
	f("reason longer than the command", "0105"+work+at+"05"+"61"+"010000000001"+"0101")
	f("attempt 0", "0105"+work+at+"00"+"01000000"+"00010001")
	f("attempt of 17 bits", "0105"+work+at+"00"+"01000000"+"0001808004"+"01")
	f("wait over the limit", "0105"+work+at+"00"+"01000000"+"000101"+"ffffffff7f")
}

func TestCommandsOfANewerVersionAreNamed(t *testing.T) {
	cmd := AppendDrop(nil, "work")
	cmd[0]++
	err := New().Apply(cmd)
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "command version 2, not 1")
}

func TestCommandsFarOutsideAreHarmless(t *testing.T) {
	s, q := openQueue(t, Policy{})
	w := newSpanWriter(appendHeader(nil, kindAck, "work"), false)
	w.take(span{first: math.MaxUint64 - 1, count: 1})
	w.take(span{first: 5, count: 1 << 60})
	require.NoError(t, s.Apply(w.finish()))
	require.Equal(t, uint64(5+math.MaxUint64-1-(5+1<<60)), q.Backlog(math.MaxUint64))
	restored, err := Restore(s.AppendSnapshot(nil))
	require.NoError(t, err)
	require.Equal(t, q.Backlog(1<<62), restored.Queue("work").Backlog(1<<62))
	require.Equal(t, []Lease{{0, 5, 1}, {5 + 1<<60, MaxInFlight - 5, 1}},
		q.Lease(nil, math.MaxInt, math.MaxUint64, 0, 1, t0))
	require.NotZero(t, s.TruncatePrefix(math.MaxUint64))
	require.Equal(t, uint64(math.MaxUint64), q.Stats().Floor)
}

func FuzzApply(f *testing.F) {
	for _, cmd := range scenario(f) {
		f.Add(cmd, cmd)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := New()
		for _, cmd := range scenario(t)[:3] {
			require.NoError(t, s.Apply(cmd))
		}
		s.Queue("work").Lease(nil, 700, 1000, 0, 1, t0)
		for _, cmd := range [][]byte{first, second} {
			before := s.AppendSnapshot(nil)
			if s.Apply(cmd) != nil {
				require.Equal(t, before, s.AppendSnapshot(nil))
				continue
			}
			once := s.AppendSnapshot(nil)
			require.NoError(t, s.Apply(cmd))
			require.Equal(t, once, s.AppendSnapshot(nil), "applied twice")
			restored, err := Restore(once)
			require.NoError(t, err)
			require.Equal(t, once, restored.AppendSnapshot(nil))
		}
		checkTree(t, &newOrQueue(s).runs)
	})
}

// newOrQueue returns the queue of the fuzz test, or an empty one if a command dropped it.
func newOrQueue(s *State) *Queue {
	if q := s.Queue("work"); q != nil {
		return q
	}
	return newQueue("work", 0, Policy{}.normal(), new(totals))
}
