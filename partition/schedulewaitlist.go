package partition

import (
	"cmp"
	"slices"
)

// waitlist is what waits in the order of ids, as it is needed while a companion log is read: there are the
// messages with the ids [n*maxRange, (n+1)*maxRange) at n, each list in order. Those that were fired or
// cancelled stay, with gone for their due time.
type waitlist map[uint64][]scheduled

// add adds messages whose ids are not there.
func (w waitlist) add(s scheduled) {
	list := w[s.id/maxRange]
	at := len(list)
	if at > 0 && list[at-1].id > s.id {
		at, _ = slices.BinarySearchFunc(list, s.id, compareID)
	}
	w[s.id/maxRange] = slices.Insert(list, at, s)
}

func compareID(s scheduled, id uint64) int { return cmp.Compare(s.id, id) }

// take returns messages that wait, from an id on and at most so many, nil when none waits with that id.
// The result can be changed until the next call.
func (w waitlist) take(id, most uint64) *scheduled {
	s := w.find(id)
	if s == nil || s.due == gone {
		return nil
	}
	whole, next := *s, s.end()
	if most < next-id {
		next = id + max(1, most)
	}
	if whole.id == id && whole.end() == next {
		return s
	}
	if whole.id == id {
		*s = whole.slice(id, next)
	} else {
		*s = whole.slice(whole.id, id)
		w.add(whole.slice(id, next))
	}
	if next < whole.end() {
		w.add(whole.slice(next, whole.end()))
	}
	return w.find(id)
}

// find returns the messages of which one has the id.
func (w waitlist) find(id uint64) *scheduled {
	page := id / maxRange
	list := w[page]
	at, found := slices.BinarySearchFunc(list, id, compareID)
	if !found {
		at--
	}
	if at < 0 && page > 0 { // they can begin a page before
		list = w[page-1]
		at = len(list) - 1
	}
	if at < 0 || id >= list[at].end() {
		return nil
	}
	return &list[at]
}
