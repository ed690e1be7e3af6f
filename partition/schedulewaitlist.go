package partition

import (
	"cmp"
	"slices"
)

// waitlist is an index of waiting messages by id, used while a companion log is loaded. At n it has the items whose
// first id is in [n*maxRange, (n+1)*maxRange), sorted by id. Messages that were fired or cancelled stay, with gone for
// their due time.
type waitlist map[uint64][]scheduled

// add adds an item with new ids.
func (w waitlist) add(s scheduled) {
	list := w[s.id/maxRange]
	at := len(list)
	if at > 0 && list[at-1].id > s.id {
		at, _ = slices.BinarySearchFunc(list, s.id, compareID)
	}
	w[s.id/maxRange] = slices.Insert(list, at, s)
}

func compareID(s scheduled, id uint64) int { return cmp.Compare(s.id, id) }

// take returns the item that starts with an id, after splitting it off the item that holds the id: at most most
// messages, but at least one. It returns nil when no message waits with that id. The caller may change the result
// until the next call.
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

// find returns the item that holds an id, or nil.
func (w waitlist) find(id uint64) *scheduled {
	page := id / maxRange
	list := w[page]
	at, found := slices.BinarySearchFunc(list, id, compareID)
	if !found {
		at--
	}
	if at < 0 && page > 0 { // it may start in the page before
		list = w[page-1]
		at = len(list) - 1
	}
	if at < 0 || id >= list[at].end() {
		return nil
	}
	return &list[at]
}
