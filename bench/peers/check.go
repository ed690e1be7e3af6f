package main

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// maxPublishers is the limit of the number of publishers in a scenario; publisher numbers are below it.
const maxPublishers = 64

// checker checks the messages of one receiver: that none is lost, repeated or damaged, and that those of
// each publisher are in order.
type checker struct {
	next      [maxPublishers]uint64 // the sequence number after the highest one, by publisher
	got       int                   // messages, including damaged ones
	reordered int                   // messages that came after later ones, or again
	damaged   int
}

// take checks a message. It returns its head; ok is false if it is damaged.
func (c *checker) take(p []byte) (head uint64, ok bool) {
	c.got++
	head, ok = parse(p)
	publisher := head >> publisherShift
	if !ok || publisher >= maxPublishers {
		c.damaged++
		return 0, false
	}
	sequence := head & sequenceMask
	switch expected := c.next[publisher]; {
	case sequence > expected:
		c.next[publisher] = sequence + 1 // the missing ones may still come, out of order
	case sequence < expected:
		c.reordered++
	default:
		c.next[publisher]++
	}
	return head, true
}

// parse returns the head of a payload. ok is false if the hash at its end does not match.
func parse(p []byte) (head uint64, ok bool) {
	if len(p) < smallestPayload {
		return 0, false
	}
	head = binary.LittleEndian.Uint64(p)
	return head, binary.LittleEndian.Uint64(p[len(p)-8:]) == hash(head)
}

// verdict returns what is wrong, given how many messages were sent; "" for nothing.
func (c *checker) verdict(sent int) string {
	return faults(sent-c.got, c.reordered, c.damaged)
}

// faults returns the counts that are above zero as text, such as "lost: 3, damaged: 1". A negative lost is
// a surplus.
func faults(lost, reordered, damaged int) string {
	var found []string
	for _, f := range []struct {
		what string
		n    int
	}{{"lost", lost}, {"too many", -lost}, {"out of order", reordered}, {"damaged", damaged}} {
		if f.n > 0 {
			found = append(found, fmt.Sprintf("%s: %d", f.what, f.n))
		}
	}
	return strings.Join(found, ", ")
}

// onceChecker checks messages that may come in any order, as from a queue: that each comes exactly once.
type onceChecker struct {
	bits     [maxPublishers][]uint64 // a bit for each sequence number that came, by publisher
	got      int                     // different messages
	repeated int
	damaged  int
}

// take checks a message.
func (s *onceChecker) take(p []byte) {
	head, ok := parse(p)
	publisher := head >> publisherShift
	if !ok || publisher >= maxPublishers {
		s.damaged++
		return
	}
	i, bits := head&sequenceMask, s.bits[publisher]
	for i/64 >= uint64(len(bits)) {
		bits = append(bits, make([]uint64, max(1024, len(bits)))...)
		s.bits[publisher] = bits
	}
	if bit := uint64(1) << (i % 64); bits[i/64]&bit != 0 {
		s.repeated++
	} else {
		bits[i/64] |= bit
		s.got++
	}
}

// verdict returns what is wrong, given how many different messages were expected; "" for nothing.
func (s *onceChecker) verdict(sent int) string {
	found := faults(sent-s.got, 0, s.damaged)
	if s.repeated > 0 {
		found = strings.TrimPrefix(found+fmt.Sprintf(", repeated: %d", s.repeated), ", ")
	}
	return found
}
