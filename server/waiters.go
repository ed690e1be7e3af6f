package server

import "slices"

// waiters are members that end in any order. Those that have ended are removed together, so that to end one of
// thousands does not cost a walk over the others.
type waiters[T interface{ over() bool }] struct {
	list  []T
	ended int // members of list that are over
	walks int // calls of each in progress
}

// len returns how many members are not over.
func (w *waiters[T]) len() int { return len(w.list) - w.ended }

func (w *waiters[T]) add(x T) { w.list = append(w.list, x) }

// left notes that a member is over.
func (w *waiters[T]) left() {
	if w.ended++; 2*w.ended < len(w.list) {
		return
	}
	if w.walks > 0 { // do not change the list that each iterates over
		w.list = slices.Clone(w.list)
	}
	w.list = slices.DeleteFunc(w.list, T.over)
	w.ended = 0
	if len(w.list) == 0 {
		w.list = nil
	}
}

// each calls f for every member that is there now and not over. f may add members and end some.
func (w *waiters[T]) each(f func(x T)) {
	w.walks++
	defer func() { w.walks-- }()
	for _, x := range w.list {
		if !x.over() {
			f(x)
		}
	}
}
