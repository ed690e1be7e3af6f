package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// all returns the payloads of a work.
func all(w *work) (ps [][]byte) {
	for p := w.next(); p != nil; p = w.next() {
		ps = append(ps, append([]byte{}, p...))
	}
	return ps
}

func TestABoundedWorkEndsWithAMarkedMessage(t *testing.T) {
	for _, n := range []int{1, 2, checkEvery, checkEvery + 1, 1000} {
		w := &work{publisher: 3, size: 20, limit: n, until: time.Now().Add(time.Hour)}
		ps := all(w)
		require.Len(t, ps, n)
		require.Equal(t, n, w.sent)
		for i, p := range ps {
			head, ok := parse(p)
			require.True(t, ok)
			require.Len(t, p, 20)
			require.EqualValues(t, 3, head>>publisherShift)
			require.EqualValues(t, i, head&sequenceMask)
			require.Equal(t, i == n-1, head&lastBit != 0, "message %d of %d", i, n)
		}
	}
}

func TestAWorkEndsWithItsTime(t *testing.T) {
	w := &work{size: 16, until: time.Now()}
	ps := all(w)
	require.Len(t, ps, 1)
	head, _ := parse(ps[0])
	require.NotZero(t, head&lastBit)
	require.Nil(t, w.next())
}

func TestAWorkEndsWhenThereIsNoRoom(t *testing.T) {
	w := &work{size: 16, until: time.Now().Add(time.Hour), room: func(w *work) int { return max(0, 3-w.sent) }}
	ps := all(w)
	require.Len(t, ps, 4)
	head, _ := parse(ps[3])
	require.NotZero(t, head&lastBit)
}

func TestLanesShareABoundedWorkUnderNumbersOfTheirOwn(t *testing.T) {
	w := &work{publisher: 2, size: 16, limit: 11, until: time.Now().Add(time.Hour)}
	lanes := w.lanes(4)
	var sent []int
	for i, lane := range lanes {
		require.EqualValues(t, 8+i, lane.publisher)
		sent = append(sent, len(all(lane)))
	}
	w.join(lanes)
	require.Equal(t, []int{3, 3, 3, 2}, sent)
	require.Equal(t, 11, w.sent)
	require.Nil(t, w.next())
	require.Len(t, (&work{limit: 2}).lanes(4), 2)
	require.Len(t, new(work).lanes(4), 4)
}

func TestKeptPayloadsStayValid(t *testing.T) {
	w := &work{size: 16, limit: 4, until: time.Now().Add(time.Hour)}
	w.keep(3)
	for i, p := range w.batch(3) {
		head, ok := parse(p)
		require.True(t, ok)
		require.EqualValues(t, i, head&sequenceMask)
	}
	require.Len(t, w.batch(3), 1)
}

func TestAPublisherStaysAheadOfTheSlowestReceiverByItsRoom(t *testing.T) {
	fast, slow := &receiver{}, &receiver{}
	room := ahead(10, []*receiver{fast, slow})
	fast.from[1].n.Store(8)
	slow.from[1].n.Store(3)
	require.Equal(t, 5, room(&work{publisher: 1, sent: 8}))
	require.Equal(t, 10, room(&work{publisher: 1, sent: 3}))

	waited := make(chan int)
	go func() { waited <- room(&work{publisher: 1, sent: 13}) }()
	slow.from[1].n.Store(7)
	got := <-waited
	require.Positive(t, got)
	require.LessOrEqual(t, got, 5)
}

func TestMessagesOfAnOpenLoopAreDueAtARate(t *testing.T) {
	start := time.Unix(1000, 0)
	w := &work{rate: 50_000, start: start}
	require.Equal(t, start, w.due(0))
	require.Equal(t, start.Add(20*time.Microsecond), w.due(1))
	require.Equal(t, start.Add(time.Second), w.due(50_000))
}
