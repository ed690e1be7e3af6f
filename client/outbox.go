package client

import "slices"

// outbox is the output of a connection, in order. Small frames are copied into memory of its own;
// large ones are lent and written from where they are.
type outbox struct {
	own   []byte   // copied frames
	parts [][]byte // what to write: stretches of own, and lent frames
	cut   int      // own[:cut] is in parts
	lent  int      // bytes of lent frames
}

// room makes room for size more bytes in own. The memory doubles: append would take a quarter more at a time, and copy all of
// it each time.
func (o *outbox) room(size int) {
	if cap(o.own)-len(o.own) < size {
		o.own = slices.Grow(o.own, 2*cap(o.own)-len(o.own)+size)
	}
}

// lend appends b without copying it. The caller must not change b until it is written.
func (o *outbox) lend(b []byte) {
	o.cutOwn()
	o.parts = append(o.parts, b)
	o.lent += len(b)
}

// cutOwn moves the rest of own to parts.
func (o *outbox) cutOwn() {
	if o.cut < len(o.own) {
		o.parts = append(o.parts, o.own[o.cut:])
		o.cut = len(o.own)
	}
}

// size returns how many bytes the outbox holds.
func (o *outbox) size() int { return len(o.own) + o.lent }

// reset empties the outbox. It keeps the memory, up to maxKeptOut.
func (o *outbox) reset() {
	if cap(o.own) > maxKeptOut {
		o.own = nil
	}
	clear(o.parts)
	*o = outbox{own: o.own[:0], parts: o.parts[:0]}
}
