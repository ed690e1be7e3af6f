package client

import (
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

// heard gathers the messages of one listener that arrived with one read, to hand them over
// together. It belongs to the connection's reader.
type heard struct {
	id      uint32    // of the subscription heard last; kept after a hand-over, like l and subject
	l       *Listener // of that subscription; nil when it is closed
	subject string    // of the last message; kept, because the next one often has the same
	ms      []*Message
	slab    []Message // memory for the next messages
	values  []byte    // memory for the next values
}

const (
	heardTogether = 64       // at most so many messages share memory
	sharedValues  = 32 << 10 // at most so many bytes of values share memory
)

// onMessage takes a message for a listener.
func (cn *conn) onMessage(f *frame) error {
	h := &cn.heard
	if f.Flags&wire.FlagError != 0 {
		return cn.onListenEnded(f)
	}
	if h.l == nil || h.id != f.Correlation {
		cn.passOn()
		cn.mu.Lock()
		h.id, h.l = f.Correlation, cn.listens[f.Correlation]
		cn.mu.Unlock()
	}
	if h.l == nil { // it was closed meanwhile
		return nil
	}
	m, err := cn.hear(f)
	if err != nil {
		return err
	}
	switch nobody := f.Flags&wire.FlagNoResponders != 0; {
	case h.l.inline != nil:
		h.l.inline(m, nobody)
	case !nobody:
		h.ms = append(h.ms, m)
	}
	return nil
}

// onListenEnded ends a listener whose subscription the broker ended.
func (cn *conn) onListenEnded(f *frame) error {
	cn.passOn()
	cn.heard.l = nil
	cn.mu.Lock()
	l := cn.listens[f.Correlation]
	delete(cn.listens, f.Correlation)
	delete(cn.listening, l)
	cn.mu.Unlock()
	if l == nil {
		return nil
	}
	we, err := parseError(f)
	if err != nil {
		return err
	}
	l.broken(explain(we, wire.OpListen, "", anyPartition))
	return nil
}

// hear returns the message in a frame, in memory that it shares only with messages of the same
// read.
func (cn *conn) hear(f *frame) (*Message, error) {
	h := &cn.heard
	body := f.Body
	own := f.large != nil
	if own {
		body = f.own().body
	}
	var live wire.Live
	if err := live.Parse(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	behind := cn.frames.buffered()
	if len(h.slab) == 0 {
		h.slab = make([]Message, 1+min(behind/(wire.HeaderBytes+len(body)), heardTogether-1))
	}
	m := &h.slab[0]
	h.slab = h.slab[1:]
	if string(live.Subject) != h.subject {
		h.subject = string(live.Subject)
	}
	m.Subject, m.Reply = h.subject, string(live.Reply)
	if m.Value = live.Payload; !own {
		m.Value = h.copy(live.Payload, behind)
	}
	parseNATSHeader(m, live.Header)
	return m, nil
}

// copy returns a copy of a value. behind is about how many more bytes of values the same read
// brought.
func (h *heard) copy(value []byte, behind int) []byte {
	n := len(value)
	if n > cap(h.values)-len(h.values) {
		if n > sharedValues/8 {
			return append(make([]byte, 0, n), value...)
		}
		h.values = make([]byte, 0, min(n+behind, sharedValues))
	}
	at := len(h.values)
	h.values = append(h.values, value...)
	return h.values[at : at+n : at+n]
}

// passOn hands over what was gathered. The reader calls it before it waits for more, and before it
// dispatches any other frame: an answer may tell its receiver that all earlier messages have
// arrived.
func (cn *conn) passOn() {
	h := &cn.heard
	if len(h.ms) == 0 {
		return
	}
	h.l.take(h.ms)
	clear(h.ms)
	h.ms, h.slab, h.values = h.ms[:0], nil, nil
}
