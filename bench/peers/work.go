package main

import (
	"encoding/binary"
	"time"
)

// A payload begins with the number of its publisher and the message's number there, and ends with a
// hash of these 8 bytes:
//
//	0           2              8             size-8         size
//	+-----------+--------------+-------------+--------------+
//	| publisher | E + sequence | filler      | hash         |
//	+-----------+--------------+-------------+--------------+
//
// E, the highest bit, marks the last message of a publisher.
const (
	smallestPayload = 16
	publisherShift  = 48
	lastBit         = 1 << 47
	sequenceMask    = lastBit - 1
)

func hash(head uint64) uint64 { return (head + 1) * 0x9E3779B97F4A7C15 }

func stamp(p []byte, head uint64) {
	binary.LittleEndian.PutUint64(p, head)
	binary.LittleEndian.PutUint64(p[len(p)-8:], hash(head))
}

// work is what one publisher is to send. Its messages are made one at a time, by next.
type work struct {
	publisher uint64
	size      int
	until     time.Time         // no messages after this
	limit     int               // nor more than this; 0 for no limit
	rate      float64           // messages a second, an open loop; 0 for as fast as they are taken
	start     time.Time         // of the open loop
	prompt    bool              // a message is to leave at once, not with the next ones
	room      func(w *work) int // how many messages may be sent now, 0 to end; nil for any number
	acked     func(i int)       // called in order with each message that was acknowledged; nil for nobody

	sent    int
	allowed int // messages until the room or the clock is asked again
	done    bool
	ring    [][]byte
}

// checkEvery is after how many messages the clock is looked at.
const checkEvery = 64

// keep has the payloads of n messages in a row stay valid: for clients that do not copy at once.
func (w *work) keep(n int) {
	w.ring = make([][]byte, n)
	for i := range w.ring {
		w.ring[i] = make([]byte, w.size)
	}
}

// next returns the payload of the next message, nil after the last one. It is valid until the next call,
// or as long as keep was told.
func (w *work) next() []byte {
	if w.done {
		return nil
	}
	if w.ring == nil {
		w.keep(1)
	}
	head := w.publisher<<publisherShift | uint64(w.sent)
	if w.allowed == 0 {
		w.allow()
	}
	if w.done {
		head |= lastBit
	}
	w.allowed--
	p := w.ring[w.sent%len(w.ring)]
	stamp(p, head)
	w.sent++
	return p
}

// allow says for how many messages nobody needs to be asked, and whether the next one is the last.
func (w *work) allow() {
	switch {
	case w.rate > 0:
		w.allowed = 1
		sleepUntil(w.due(w.sent))
	case w.room != nil:
		w.allowed = min(checkEvery, w.room(w))
		if w.allowed == 0 {
			w.allowed, w.done = 1, true
		}
	default:
		w.allowed = checkEvery
	}
	if w.limit > 0 { // the last one is asked for by itself
		w.allowed = min(w.allowed, max(1, w.limit-w.sent-1))
		w.done = w.done || w.sent+1 == w.limit
	}
	w.done = w.done || time.Now().After(w.until)
}

// due returns when a message of an open loop is to be sent.
func (w *work) due(i int) time.Time {
	return w.start.Add(time.Duration(float64(i) / w.rate * float64(time.Second)))
}

// lanes shares the work among n publishers with numbers of their own, for clients that are faster from
// several goroutines. A bounded work is divided, among fewer when it is small.
func (w *work) lanes(n int) []*work {
	if w.limit > 0 {
		n = min(n, w.limit)
	}
	all := make([]*work, n)
	for i := range all {
		lane := *w
		lane.publisher = w.publisher*uint64(n) + uint64(i)
		lane.limit = w.limit / n // 0 stays 0
		if i < w.limit%n {
			lane.limit++
		}
		all[i] = &lane
	}
	return all
}

// join adds up what lanes have sent.
func (w *work) join(lanes []*work) {
	for _, lane := range lanes {
		w.sent += lane.sent
	}
	w.done = true
}

// batch returns the next messages, at most n.
func (w *work) batch(n int) [][]byte {
	ps := make([][]byte, 0, n)
	for p := w.next(); p != nil; p = w.next() {
		if ps = append(ps, p); len(ps) == n {
			break
		}
	}
	return ps
}
