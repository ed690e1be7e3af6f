package main

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// maxPublishers is how many publishers a receiver can tell apart.
const maxPublishers = 64

// checker looks at what one receiver gets: is all of it there, in the order of its publisher, and whole?
type checker struct {
	next      [maxPublishers]uint64
	got       int
	reordered int // messages that came after later ones, or again
	damaged   int
}

// take looks at a message. It returns the first word of the payload unless that is damaged.
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
		c.next[publisher] = sequence + 1 // what is missing may still come, out of order
	case sequence < expected:
		c.reordered++
	default:
		c.next[publisher]++
	}
	return head, true
}

// parse returns the first word of a payload and whether it belongs to the last one.
func parse(p []byte) (head uint64, ok bool) {
	if len(p) < smallestPayload {
		return 0, false
	}
	head = binary.LittleEndian.Uint64(p)
	return head, binary.LittleEndian.Uint64(p[len(p)-8:]) == hash(head)
}

// verdict says what is wrong with what came of the messages that were sent; nothing when it is empty.
func (c *checker) verdict(sent int) string {
	return faults(sent-c.got, c.reordered, c.damaged)
}

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

// seen checks messages that may come in any order, as from a queue: each once.
type seen struct {
	bits     [maxPublishers][]uint64
	got      int
	repeated int
	damaged  int
}

func (s *seen) take(p []byte) {
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

func (s *seen) verdict(sent int) string {
	found := faults(sent-s.got, 0, s.damaged)
	if s.repeated > 0 {
		found = strings.TrimPrefix(found+fmt.Sprintf(", repeated: %d", s.repeated), ", ")
	}
	return found
}
