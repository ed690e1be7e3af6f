package client_test

import (
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// What the model of lives verifies when all is calm.

// settleLives waits until everything that is stored in the end was handled.
func (s *lives) settleLives() {
	c := s.dial()
	defer s.close(c)
	var all []*client.Message
	var missing string
	for deadline := time.Now().Add(20 * time.Second); ; {
		info, err := c.Topic(s.calm, sagaTopic)
		if err != nil {
			s.failf("topic: %v", err)
			return
		}
		all = s.contents(c, sagaTopic, len(info.Partitions))
		if missing = s.unhandled(all); missing == "" {
			break
		}
		if time.Now().After(deadline) {
			s.failf("%s", missing)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.checkLives(all)
	s.checkDead(c)
}

// checkDead verifies that no dead letter is in the dead-letter topic twice.
func (s *lives) checkDead(c *client.Client) {
	info, err := c.Topic(s.calm, sagaTopic+".q.dlq")
	if err != nil {
		return
	}
	found := map[string]bool{}
	for _, d := range s.contents(c, sagaTopic+".q.dlq", len(info.Partitions)) {
		of := fmt.Sprintf("%s/%s %q", d.Header("rafka-dead-partition"), d.Header("rafka-dead-offset"), d.Value)
		if found[of] {
			s.failf("%s is a dead letter twice", of)
		}
		found[of] = true
	}
}

// unhandled says what is missing, or "".
func (s *lives) unhandled(all []*client.Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted, have := map[copyOf]bool{}, map[string]bool{}
	for _, e := range s.begun {
		if e.success {
			sorted[e.of] = true
		}
	}
	for _, m := range all {
		at := copyFrom(m)
		have[at.value] = true
		switch {
		case !s.grouped[at]:
			return fmt.Sprintf("the group did not handle %v", at)
		case !s.queued[at]:
			return fmt.Sprintf("the queue did not handle %v", at)
		case !sorted[at]:
			return fmt.Sprintf("the ordered queue did not handle %v", at)
		}
	}
	for value, in := range s.at {
		at := s.acked[value]
		purged := at.offset < s.purged[at.partition] || at.offset == 1<<63 && len(s.purged) > 0
		if in == s.phase.Load() && !have[value] && !purged {
			return fmt.Sprintf("%q is not stored at %v", value, at)
		}
	}
	return ""
}

// checkLives verifies what was seen against what the topic holds in the end.
func (s *lives) checkLives(all []*client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, last, keys := map[string]spot{}, map[string]int{}, map[string][]spot{}
	values := map[spot]string{}
	for _, m := range all {
		at := copyFrom(m)
		if was, twice := stored[at.value]; twice {
			s.failf("%q is stored twice: at %v and %v", at.value, was, at.spot)
		}
		stored[at.value], values[at.spot] = at.spot, at.value
		s.inOrder(last, at.value, at.spot)
		keys[string(m.Key)] = append(keys[string(m.Key)], at.spot)
		if was, acked := s.at[at.value]; acked && was < s.phase.Load() {
			s.failf("%q was acknowledged in phase %d, and a later topic holds it", at.value, was)
		}
	}
	var events []event
	for _, e := range s.begun {
		if values[e.of.spot] == e.of.value {
			events = append(events, event{e.key, e.of.spot, e.success})
		}
	}
	s.events = events
	s.checkKeys(keys)
}
