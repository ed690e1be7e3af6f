package partition

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

func TestProducersAreNumbered(t *testing.T) {
	var ps producers
	f := func(epoch, sequence uint64, count uint32, code wire.Code, storedAt uint64) {
		t.Helper()
		pr := wire.Producer{ID: 7, Epoch: epoch, Sequence: sequence}
		stored, err := ps.check(pr, count)
		if code != 0 {
			require.ErrorIs(t, err, code)
			return
		}
		require.NoError(t, err)
		if storedAt > 0 {
			require.NotNil(t, stored)
			require.Equal(t, storedAt, stored.base)
			return
		}
		require.Nil(t, stored)
		ps.note(pr, count, 100+sequence, 1000+sequence)
	}
	f(1, 5, 2, 0, 0) // whoever is not known may begin anywhere
	f(1, 7, 1, 0, 0)
	f(1, 5, 2, 0, 105)
	f(1, 7, 1, 0, 107)
	f(1, 5, 1, wire.CodeInvalid, 0)
	f(1, 9, 1, wire.CodeOutOfSequence, 0)
	f(0, 8, 1, wire.CodeFenced, 0)
	f(2, 0, 3, 0, 0) // a new epoch numbers anew
	f(1, 8, 1, wire.CodeFenced, 0)
	f(2, 0, 3, 0, 100)
	for s := uint64(3); s < 3+rememberedRuns; s++ {
		f(2, s, 1, 0, 0)
	}
	f(2, 3, 1, 0, 103)
	f(2, 0, 3, wire.CodeInvalid, 0)
}

func TestProducersThatWereSilentLongestAreForgotten(t *testing.T) {
	var ps producers
	for id := uint64(1); id <= maxProducers; id++ {
		ps.note(wire.Producer{ID: id}, 1, id, id)
	}
	ps.note(wire.Producer{ID: 1, Sequence: 1}, 1, 0, 0)
	ps.note(wire.Producer{ID: maxProducers + 1}, 1, 0, 0)
	require.LessOrEqual(t, len(ps.byID), maxProducers)
	require.NotNil(t, ps.byID[1], "it was heard of")
	require.Nil(t, ps.byID[2])
	require.NotNil(t, ps.byID[maxProducers])
}

func TestProducersSurviveASnapshot(t *testing.T) {
	var ps producers
	for id := uint64(1); id <= 3; id++ {
		for s := range uint64(12) {
			ps.note(wire.Producer{ID: id, Epoch: id, Sequence: s * 2}, 2, s*10, s)
		}
	}
	ps.ids.add(digestOf([]byte("a")), place{7, 8}, 9)
	blob := envelope(&ps, []byte("consumers"), true)
	var back producers
	consumers, expiring, err := back.splitSnapshot(blob)
	require.NoError(t, err)
	require.Equal(t, "consumers", string(consumers))
	require.True(t, expiring)
	require.Equal(t, ps.ids, back.ids)
	require.Len(t, back.byID, 3)
	for id, p := range ps.byID {
		require.Equal(t, p.runs, back.byID[id].runs)
		require.Equal(t, []uint64{p.epoch, p.next}, []uint64{back.byID[id].epoch, back.byID[id].next})
	}
	require.Equal(t, blob, envelope(&back, consumers, true))
	for cut := 3; cut < len(blob); cut++ {
		_, _, err := new(producers).splitSnapshot(blob[:cut])
		require.Error(t, err, "cut at %d", cut)
	}
	_, _, err = new(producers).splitSnapshot(append(blob, 0))
	require.Error(t, err)
	plain, _, err := new(producers).splitSnapshot([]byte{1, 2, 3, 4})
	require.NoError(t, err)
	require.Equal(t, []byte{1, 2, 3, 4}, plain)
}

func TestUsedNumbersRoundTrip(t *testing.T) {
	f := func(pr wire.Producer, count uint32, base uint64) {
		t.Helper()
		entry := appendUsed(nil, pr, count, base)
		require.True(t, isUsed(entry))
		var want, got producers
		want.note(pr, count, base, 77)
		require.NoError(t, got.noteUsed(entry, 77))
		require.Equal(t, want.byID, got.byID)
		for cut := len(envelopeMark); cut < len(entry); cut++ {
			require.ErrorIs(t, new(producers).noteUsed(entry[:cut], 77), errUsed, "cut at %d", cut)
		}
		require.ErrorIs(t, new(producers).noteUsed(append(entry, 0), 77), errUsed)
	}
	f(wire.Producer{ID: 1}, 1, 0)
	f(wire.Producer{ID: 9, Epoch: 300, Sequence: 1 << 40}, 1, 5)
	f(wire.Producer{ID: SchedulerID, Sequence: 7}, math.MaxUint32, math.MaxUint64)
	require.ErrorIs(t, new(producers).noteUsed([]byte("RP\x01\x01\x00\x00\x80\x80\x80\x80\x10\x00"), 1), errUsed, "2^32 numbers")
	require.ErrorIs(t, new(producers).noteUsed([]byte("RP\x02"), 1), group.ErrVersion)
	require.ErrorIs(t, new(producers).noteUsed([]byte("RP\x00\x01\x00\x00\x01\x00"), 1), errUsed)
	require.False(t, isUsed(group.AppendDrop(nil, "RP")))
}

func FuzzUsedNumbers(f *testing.F) {
	f.Add(appendUsed(nil, wire.Producer{ID: 9, Epoch: 300, Sequence: 1 << 40}, 1, 5))
	f.Add([]byte(envelopeMark))
	f.Fuzz(func(t *testing.T, entry []byte) {
		if !isUsed(entry) {
			return
		}
		var ps producers
		if ps.noteUsed(entry, 7) != nil {
			require.Empty(t, ps.byID)
		}
	})
}

func FuzzProducersSnapshot(f *testing.F) {
	var ps producers
	ps.note(wire.Producer{ID: 1}, 1, 2, 3)
	ps.ids.add(digestOf([]byte("a")), place{2, 3}, 4)
	f.Add(envelope(&ps, []byte("x"), false))
	f.Add([]byte("RP\x01\x00\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		var ps producers
		if consumers, _, err := ps.splitSnapshot(blob); err == nil && len(ps.byID) > 0 {
			_, _, err := new(producers).splitSnapshot(envelope(&ps, consumers, false))
			require.NoError(t, err)
		}
	})
}

// envelope is the snapshot of ps around that of the consumers.
func envelope(ps *producers, consumers []byte, expiring bool) []byte {
	return appendExpiring(appendIDs(ps.appendSnapshot(nil, consumers), ps.ids.live()), expiring)
}
