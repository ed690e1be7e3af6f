package server

import (
	"container/heap"
	"time"
)

// timed is something that has to happen at a time, unless it is removed before.
type timed struct {
	at     time.Time
	expire func(now time.Time)
	place  int // in the heap, from 1; 0 when it is not there
}

// timerHeap is a heap of what a loop has to do later, the earliest on top.
type timerHeap struct{ h timedSlice }

type timedSlice []*timed

func (t timedSlice) Len() int           { return len(t) }
func (t timedSlice) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timedSlice) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i+1, j+1
}

func (t *timedSlice) Push(x any) {
	w := x.(*timed)
	*t = append(*t, w)
	w.place = len(*t)
}

func (t *timedSlice) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	last.place = 0
	return last
}

func (t *timerHeap) add(w *timed) { heap.Push(&t.h, w) }

// pop removes and returns one that is due, or nil when there is none.
func (t *timerHeap) pop(now time.Time) *timed {
	if len(t.h) == 0 || t.h[0].at.After(now) {
		return nil
	}
	return heap.Pop(&t.h).(*timed)
}

// remove removes one, unless it is gone.
func (t *timerHeap) remove(w *timed) {
	if w.place > 0 {
		heap.Remove(&t.h, w.place-1)
	}
}

// next returns when the next one is due.
func (t *timerHeap) next() (time.Time, bool) {
	if len(t.h) == 0 {
		return time.Time{}, false
	}
	return t.h[0].at, true
}
