package server

import "hash/maphash"

// sids maps the peer's ids of a text session's live subscriptions to the subscriptions. It is a hash table with open
// addressing and linear probing, because there can be a million of them and a map of strings would take three times the
// memory. The zero value is empty.
type sids struct {
	slots []*liveSub // a power of two, at least a quarter of them nil; nil when there are none
	n     int
}

// sidSeed is random, so that peers cannot choose ids that collide.
var sidSeed = maphash.MakeSeed()

// minSids is the size of the smallest table: most clients have a few subscriptions.
const minSids = 4

func (t *sids) len() int { return t.n }

// slot returns the slot of a sid, or the free slot in which it belongs.
func (t *sids) slot(sid []byte) int {
	mask := len(t.slots) - 1
	i := int(maphash.Bytes(sidSeed, sid)) & mask
	for t.slots[i] != nil && t.slots[i].Note() != string(sid) {
		i = (i + 1) & mask
	}
	return i
}

// find returns the subscription of a sid, or nil.
func (t *sids) find(sid []byte) *liveSub {
	if t.n == 0 {
		return nil
	}
	return t.slots[t.slot(sid)]
}

// add adds a subscription whose sid is not in the table.
func (t *sids) add(sub *liveSub) {
	if (t.n+1)*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]*liveSub, max(minSids, 2*len(old)))
		for _, s := range old {
			if s != nil {
				t.slots[t.slot([]byte(s.Note()))] = s
			}
		}
	}
	t.slots[t.slot([]byte(sub.Note()))] = sub
	t.n++
}

// remove removes a subscription, and moves up those behind it that belong in an earlier slot.
func (t *sids) remove(sub *liveSub) {
	if t.n == 0 {
		return
	}
	i := t.slot([]byte(sub.Note()))
	if t.slots[i] != sub {
		return
	}
	if t.n--; t.n == 0 {
		t.slots = nil
		return
	}
	mask := len(t.slots) - 1
	t.slots[i] = nil
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		s := t.slots[j]
		t.slots[j] = nil
		t.slots[t.slot([]byte(s.Note()))] = s
	}
}

// all returns the subscriptions.
func (t *sids) all() []*liveSub {
	list := make([]*liveSub, 0, t.n)
	for _, s := range t.slots {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}
