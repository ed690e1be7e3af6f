package main

import (
	"encoding/binary"
	"time"
)

// A payload begins with the number of its publisher and the sequence number that the publisher gave the
// message: together the head, of 8 bytes, little-endian. It ends with a hash of the head:
//
//	0           2              8             size-8         size
//	+-----------+--------------+-------------+--------------+
//	| publisher | E + sequence | filler      | hash         |
//	+-----------+--------------+-------------+--------------+
//
// E, the highest bit of the sequence, marks the last message of a publisher.
const (
	smallestPayload = 16 // bytes
	publisherShift  = 48
	lastBit         = 1 << 47
	sequenceMask    = lastBit - 1
)

func hash(head uint64) uint64 { return (head + 1) * 0x9E3779B97F4A7C15 }

// stamp writes a head and its hash into a payload of at least smallestPayload bytes.
func stamp(p []byte, head uint64) {
	binary.LittleEndian.PutUint64(p, head)
	binary.LittleEndian.PutUint64(p[len(p)-8:], hash(head))
}

// work produces the messages of one publisher, one at a time, with next. It ends with a marked message
// when until has passed, limit is reached or room returns 0. It is not safe for concurrent use.
type work struct {
	publisher uint64
	size      int               // of a payload, in bytes
	until     time.Time         // when the work ends
	limit     int               // the most messages; 0 for no limit
	rate      float64           // messages per second of an open loop; 0 for as fast as the system accepts them
	start     time.Time         // of the open loop
	prompt    bool              // the driver must send each message at once instead of collecting several
	room      func(w *work) int // returns how many messages may be sent now, 0 to end the work; nil for no bound
	acked     func(i int)       // called for each acknowledged message with its sequence number, in order; may be nil

	sent    int      // messages that next has returned
	allowed int      // messages that next may return before it calls allow again
	done    bool     // next has returned the last message
	ring    [][]byte // payloads, reused in turn
}

// checkEvery is how many messages are sent or received between two looks at the clock.
const checkEvery = 64

// keep makes the payloads of n consecutive messages stay valid, for clients that do not copy them at once.
func (w *work) keep(n int) {
	w.ring = make([][]byte, n)
	for i := range w.ring {
		w.ring[i] = make([]byte, w.size)
	}
}

// next returns the payload of the next message, or nil after the last one. In an open loop it waits until
// the message is due. The payload is valid until the next call, or longer after keep.
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

// allow sets how many messages next may return without looking at the clock or the room, and sets done
// if the next message is the last one.
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
	if w.limit > 0 { // stop before the last message, so that allow is called for it
		w.allowed = min(w.allowed, max(1, w.limit-w.sent-1))
		w.done = w.done || w.sent+1 == w.limit
	}
	w.done = w.done || time.Now().After(w.until)
}

// due returns when message i of an open loop is to be sent.
func (w *work) due(i int) time.Time {
	return w.start.Add(time.Duration(float64(i) / w.rate * float64(time.Second)))
}

// lanes divides the work among n publishers with numbers of their own, for clients that are faster with
// several goroutines. Each lane has its part of a limit; there are fewer lanes than n if the limit is
// less. Call join when the lanes are done.
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

// join adds the messages that the lanes have sent to w, and ends w.
func (w *work) join(lanes []*work) {
	for _, lane := range lanes {
		w.sent += lane.sent
	}
	w.done = true
}

// batch returns the payloads of the next messages, at most n. keep must have been called with at least n.
func (w *work) batch(n int) [][]byte {
	ps := make([][]byte, 0, n)
	for p := w.next(); p != nil; p = w.next() {
		if ps = append(ps, p); len(ps) == n {
			break
		}
	}
	return ps
}
