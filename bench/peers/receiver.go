package main

import (
	"sync/atomic"
	"time"
)

// receiver is one subscriber: it checks what it gets and says how far it is, where publishers see it.
type receiver struct {
	checker
	delivered func(head uint64) // called with each message; nil for nobody
	from      [maxPublishers]progress
}

// progress counts the messages of one publisher.
type progress struct {
	n atomic.Int64
	_ [56]byte // a cache line of its own
}

func (r *receiver) take(p []byte) {
	head, ok := r.checker.take(p)
	if !ok {
		return
	}
	publisher := head >> publisherShift
	if n := r.next[publisher]; n%checkEvery == 0 || head&lastBit != 0 {
		r.from[publisher].n.Store(int64(n))
	}
	if r.delivered != nil {
		r.delivered(head)
	}
}

// reached returns how many messages the receiver has passed.
func (r *receiver) reached() (n int) {
	for i := range r.from {
		n += int(r.from[i].n.Load())
	}
	return n
}

// ahead returns a room that keeps each publisher at most so many messages before the slowest receiver.
// All systems get the same: those that would drop messages are not made to, and none is hurried. It ends
// the work when nothing comes any more.
func ahead(limit int, receivers []*receiver) func(*work) int {
	return func(w *work) int {
		for begun := time.Now(); time.Since(begun) < quiet; time.Sleep(50 * time.Microsecond) {
			slowest := int64(w.sent)
			for _, r := range receivers {
				slowest = min(slowest, r.from[w.publisher].n.Load())
			}
			if left := limit - (w.sent - int(slowest)); left > 0 {
				return left
			}
		}
		return 0
	}
}

// quiet is how long nothing may come before what is missing counts as lost.
const quiet = 3 * time.Second

// wait returns when every receiver has passed so many messages, or nothing comes any more.
func wait(receivers []*receiver, sent int) {
	last, since := 0, time.Now()
	for time.Since(since) < quiet {
		sum := 0
		for _, r := range receivers {
			sum += min(sent, r.reached())
		}
		if sum == sent*len(receivers) {
			return
		}
		if sum != last {
			last, since = sum, time.Now()
		}
		time.Sleep(100 * time.Microsecond)
	}
}
