package client_test

import (
	"context"
	"errors"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// The group of the model of lives.

func (s *lives) groupMember() {
	s.consume(func() client.Source {
		g := client.Group("g", sagaTopic)
		g.Workers, g.CommitInterval = 1+s.roll(3), time.Duration(1+s.roll(50))*time.Millisecond
		g.BackoffMin, g.BackoffMax = time.Millisecond, 2*time.Millisecond
		g.SessionTimeout, g.HandoverTimeout = 300*time.Millisecond, 150*time.Millisecond
		return g
	}, func(ctx context.Context, m *client.Message) error {
		s.passes(m)
		s.hang(ctx)
		if s.roll(30) == 0 {
			return errors.New("not now")
		}
		s.pass(m)
		return nil
	})
}

// passes checks that the group has handled everything before m.
func (s *lives) passes(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if due, ok := s.due[string(m.Value)]; ok && time.Now().Before(due.Add(-time.Millisecond)) {
		s.failf("%q arrived early", m.Value)
	}
	n, certain := life(bornIn(string(m.Value)), s.phase.Load())
	if !certain {
		return
	}
	done := s.passed[n][m.Partition]
	for offset := range m.Offset {
		if !done[offset] && offset >= s.purged[m.Partition] {
			s.failf("the group got %d of partition %d in life %d, and %d was not handled", m.Offset, m.Partition, n, offset)
			return
		}
	}
}

// pass notes that the group has handled m.
func (s *lives) pass(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grouped[copyFrom(m)] = true
	n, _ := life(0, s.phase.Load())
	if s.passed[n] == nil {
		s.passed[n] = passing{}
	}
	if s.passed[n][m.Partition] == nil {
		s.passed[n][m.Partition] = map[uint64]bool{}
	}
	s.passed[n][m.Partition][m.Offset] = true
}

// commits looks at what the group commits.
func (s *lives) commits() {
	c := s.dial()
	defer s.close(c)
	was, in := map[int]uint64{}, int64(0)
	for s.calm.Err() == nil {
		before := s.phase.Load()
		got, err := c.Committed(s.calm, "g", sagaTopic)
		if err != nil && !gone(err) && s.calm.Err() == nil {
			s.failf("committed: %v", err)
		}
		if before != in {
			clear(was)
			in = before
		}
		if err == nil && before%2 == 0 && before == s.phase.Load() {
			for p, offset := range got {
				if offset < was[p] {
					s.failf("the commit of partition %d went from %d to %d in phase %d", p, was[p], offset, before)
				}
				was[p] = offset
			}
		}
		time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
	}
}
