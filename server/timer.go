package server

import (
	"container/heap"
	"time"
)

// timed is something that has to happen at a time, unless it is done before.
type timed struct {
	at     time.Time
	done   bool
	expire func(now time.Time)
}

// timerHeap is a heap of what a loop has to do later, the earliest on top.
type timerHeap struct{ h timedSlice }

type timedSlice []*timed

func (t timedSlice) Len() int           { return len(t) }
func (t timedSlice) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timedSlice) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timedSlice) Push(x any)        { *t = append(*t, x.(*timed)) }
func (t *timedSlice) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}

func (t *timerHeap) add(w *timed) { heap.Push(&t.h, w) }

// pop removes and returns one that is due, or nil when there is none.
func (t *timerHeap) pop(now time.Time) *timed {
	for len(t.h) > 0 && (t.h[0].done || !t.h[0].at.After(now)) {
		if w := heap.Pop(&t.h).(*timed); !w.done {
			return w
		}
	}
	return nil
}

// next returns when the next one is due. It drops those that are done.
func (t *timerHeap) next() (time.Time, bool) {
	for len(t.h) > 0 && t.h[0].done {
		heap.Pop(&t.h)
	}
	if len(t.h) == 0 {
		return time.Time{}, false
	}
	return t.h[0].at, true
}
