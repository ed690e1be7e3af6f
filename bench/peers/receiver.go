package main

import (
	"sync/atomic"
	"time"
)

// receiver checks the messages of one subscriber, and publishes its progress for the publishers to see.
type receiver struct {
	checker
	delivered func(head uint64) // called with the head of each message that is not damaged; may be nil
	from      [maxPublishers]progress
}

// progress is how many messages of one publisher a receiver has passed. It is updated every checkEvery
// messages and at the last one.
type progress struct {
	n atomic.Int64
	_ [56]byte // gives n a cache line of its own
}

// take checks a message. It must be called by one goroutine at a time.
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

// reached returns how many messages of all publishers the receiver has passed, as far as progress says.
func (r *receiver) reached() (n int) {
	for i := range r.from {
		n += int(r.from[i].n.Load())
	}
	return n
}

// ahead returns a function for work.room that keeps each publisher at most limit messages ahead of the
// slowest receiver. The limit is the same for all systems, and low enough that none has to drop messages.
// When the receivers make no room for quiet, the function ends the work.
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

// quiet is how long receivers may make no progress before missing messages count as lost.
const quiet = 3 * time.Second

// waitReceived returns when every receiver has passed sent messages, or none has made progress for quiet.
func waitReceived(receivers []*receiver, sent int) {
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
