package group

import (
	"encoding/hex"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func scenarioState(t testing.TB) *State {
	s := New()
	for _, cmd := range scenario(t) {
		require.NoError(t, s.Apply(cmd))
	}
	s.TruncatePrefix(4)
	return s
}

// seal appends the checksum, as a snapshot has it.
func seal(body []byte) []byte {
	return le.AppendUint32(slices.Clip(body), crc32.Checksum(body, castagnoli))
}

func TestSnapshotKeepsItsBytes(t *testing.T) {
	f := func(want string, s *State) {
		t.Helper()
		require.Equal(t, want, hex.EncodeToString(s.AppendSnapshot(nil)))
	}
	f("0200000000"+"6da95035", New())
	s, q := openQueue(t, Policy{OrderByKey: true})
	require.NoError(t, s.Apply(AppendCommit(nil, "ai", 300, t0)))
	q.LearnKeys(0, make([]uint64, 10))
	q.Lease(nil, 10, 10, 0, 1, t0)
	apply(t, s, 0)(q.PlanAck(nil, settle(1, 1, 1)))
	apply(t, s, 0)(q.PlanNack(nil, settle(3, 1, 1), 0, "", t0))
	apply(t, s, 0)(q.PlanReject(nil, settle(4, 2, 1), "bad", t0))
	require.NoError(t, s.Apply(AppendPause(nil, "ai", true)))
	require.Equal(t, uint64(1), s.TruncatePrefix(0)+1)
	f("0200"+"01"+"026169"+"ac02"+"80d095ffbc31"+
		"01"+"04776f726b"+"b0ea01e807e0a7120500"+"01"+"06"+"01"+"03626164"+"80d095ffbc31"+"04000000"+
		"000100"+"010100"+"000101"+"80e2cfaa06"+"00"+"80d095ffbc31"+"000201"+"80e2cfaa06"+"01"+
		"01"+"026169"+"5916ed4d", s)
}

func TestSnapshotsOfVersion1AreRestored(t *testing.T) {
	body, err := hex.DecodeString("0100" + "01" + "026169" + "ac02" + "80d095ffbc31" + "00")
	require.NoError(t, err)
	s, err := Restore(seal(body))
	require.NoError(t, err)
	require.Equal(t, uint64(300), s.commits["ai"].Offset)
	require.False(t, s.Paused("ai"))
}

func TestSnapshotRoundTrip(t *testing.T) {
	s := scenarioState(t)
	snapshot := s.AppendSnapshot(nil)
	restored, err := Restore(snapshot)
	require.NoError(t, err)
	require.Equal(t, snapshot, restored.AppendSnapshot(nil))
	require.Equal(t, s.Groups(), restored.Groups())
	require.Equal(t, s.paused, restored.paused)
	require.Equal(t, s.Queue("work").Dead(), restored.Queue("work").Dead())
	require.Equal(t, s.Queue("work").Policy(), restored.Queue("work").Policy())
	require.Equal(t, append([]byte("x"), snapshot...), s.AppendSnapshot([]byte("x")))
	require.Zero(t, restored.TruncatePrefix(4))
}

func TestEveryCutOrFlippedSnapshotIsRefused(t *testing.T) {
	snapshot := scenarioState(t).AppendSnapshot(nil)
	for n := range snapshot {
		_, err := Restore(snapshot[:n:n])
		require.ErrorIs(t, err, errSnapshot, "cut to %d bytes", n)
		if n != len(snapshot)-4 {
			_, err = Restore(seal(snapshot[:n:n]))
			require.ErrorIs(t, err, errSnapshot, "cut to %d bytes and sealed", n)
		}
		for bit := range 8 {
			flipped := slices.Clone(snapshot)
			flipped[n] ^= 1 << bit
			_, err := Restore(flipped)
			require.ErrorIs(t, err, errSnapshot, "bit %d of byte %d", bit, n)
		}
	}
	_, err := Restore(append(slices.Clone(snapshot), 0))
	require.ErrorIs(t, err, errSnapshot)
}

func TestSnapshotsOfANewerVersionAreNamed(t *testing.T) {
	snapshot := New().AppendSnapshot(nil)
	body := slices.Clone(snapshot[:len(snapshot)-4])
	body[0] = 3
	_, err := Restore(seal(body))
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "snapshot version 3, not 2")
	body[0] = 0
	_, err = Restore(seal(body))
	require.ErrorIs(t, err, errSnapshot)
}

func TestSnapshotsThatContradictThemselvesAreRefused(t *testing.T) {
	const head, policy = "0100" + "00" + "01" + "0177", "0101010100"
	f := func(why, body string) {
		t.Helper()
		b, err := hex.DecodeString(body)
		require.NoError(t, err)
		_, err = Restore(seal(b))
		require.ErrorIs(t, err, errSnapshot, why)
	}
	b, err := hex.DecodeString(head + policy + "06" + "00" + "01000000" + "000200")
	require.NoError(t, err)
	_, err = Restore(seal(b))
	require.NoError(t, err)

	f("more commits than bytes", "0100"+"ffffff7f"+"00")
	f("more queues than bytes", "0100"+"00"+"ffffff7f")
	f("more causes than bytes", head+policy+"06"+"ffffff7f"+"00000000")
	f("more runs than bytes", head+policy+"06"+"00"+"ffffffff"+"000200")
	f("commits out of order", "0100"+"02"+"01620000"+"01610000"+"00")
	f("a commit twice", "0100"+"02"+"01610000"+"01610000"+"00")
	f("a queue twice", "0100"+"00"+"02"+"0177"+policy+"060000000000"+"0177"+policy+"060000000000")
	f("settled below first", "0107"+"00"+"01"+"0177"+policy+"06"+"00"+"00000000")
	f("a run below first", "0103"+"00"+"01"+"0177"+policy+"06"+"00"+"01000000"+"020200")
	f("a run beyond settled", head+policy+"06"+"00"+"01000000"+"050200")
	f("a gap beyond settled", head+policy+"06"+"00"+"01000000"+"070100")
	f("an empty run", head+policy+"06"+"00"+"01000000"+"000000")
	f("a failure without a time", head+policy+"06"+"00"+"01000000"+"0001010000"+"05")
	f("a mark without a cause", head+policy+"06"+"00"+"01000000"+"0001010101")
	f("a cause without a message", head+policy+"06"+"01"+"0005"+"00000000")
	f("bytes behind the end", "010000000000")
	f("paused names out of order", "02000000"+"02"+"0162"+"0161")
	f("a paused name twice", "02000000"+"02"+"0161"+"0161")
	f("more paused names than bytes", "02000000"+"ffffff7f")
}

func FuzzRestore(f *testing.F) {
	for _, s := range []*State{New(), scenarioState(f)} {
		snapshot := s.AppendSnapshot(nil)
		f.Add(snapshot[:len(snapshot)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Restore(seal(body))
		if err != nil {
			return
		}
		again, err := Restore(s.AppendSnapshot(nil))
		require.NoError(t, err)
		require.Equal(t, s.AppendSnapshot(nil), again.AppendSnapshot(nil))
		for _, info := range s.Groups() {
			q := s.Queue(info.Name)
			if q == nil {
				continue
			}
			checkTree(t, &q.runs)
			q.Dead()
			q.Lease(nil, 10, 1<<62, 0, 1, t0)
			cmd, _ := q.PlanExpire(nil, t0.AddDate(1, 0, 0))
			if cmd != nil {
				require.NoError(t, s.Apply(cmd))
			}
		}
		s.TruncatePrefix(1 << 61)
	})
}

func TestASnapshotOfVersion1IsRestored(t *testing.T) {
	old, err := hex.DecodeString("0100" + "01" + "026169" + "ac02" + "80d095ffbc31" +
		"01" + "04776f726b" + "b0ea01e807e0a7120500" + "06" + "01" + "03626164" + "80d095ffbc31" + "04000000" +
		"000100" + "010100" + "000101" + "80e2cfaa06" + "00" + "80d095ffbc31" + "000201" + "80e2cfaa06" + "01" +
		"a14e3012")
	require.NoError(t, err)
	s, err := Restore(old)
	require.NoError(t, err)
	q := s.Queue("work")
	require.Equal(t, Policy{}.normal(), q.Policy())
	require.False(t, q.Ordered())
	require.Equal(t, Stats{Next: 6, Redelivering: 3, Dead: 2}, q.Stats())
	require.Equal(t, uint64(300), s.commits["ai"].Offset)
}
