package client

// outbox is what a connection is to write, in order: frames that were copied into memory of its own, and
// large ones that are written from where they are.
type outbox struct {
	own   []byte   // the next frame is appended here
	parts [][]byte // what to write: stretches of own, and what was lent
	cut   int      // how much of own is in parts
	lent  int      // bytes of what was lent
}

// lend has b written behind all that is there. It must not change before it was.
func (o *outbox) lend(b []byte) {
	o.cutOwn()
	o.parts = append(o.parts, b)
	o.lent += len(b)
}

func (o *outbox) cutOwn() {
	if o.cut < len(o.own) {
		o.parts = append(o.parts, o.own[o.cut:])
		o.cut = len(o.own)
	}
}

// size returns how many bytes were put in.
func (o *outbox) size() int { return len(o.own) + o.lent }

// reset empties the outbox and keeps its memory, unless that is a lot.
func (o *outbox) reset() {
	if cap(o.own) > maxKeptOut {
		o.own = nil
	}
	clear(o.parts)
	*o = outbox{own: o.own[:0], parts: o.parts[:0]}
}
