package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/wire"
)

// place is a partition of a topic.
type place struct {
	topic     string
	partition uint16
}

// grant is what a member may do with a partition.
type grant struct {
	generation uint32
	paused     bool
}

// assignment is what a member may work on. It is not changed once made.
type assignment struct {
	revision uint32
	parts    map[place]grant
}

// membership keeps a place in a group: it joins, says that it lives, joins again on another
// connection, and knows what may be worked on. Its owner is told by changed, and asked what it is
// still busy with by working.
type membership struct {
	c       *Client
	s       *Source
	id      string
	every   time.Duration
	changed func()                    // the assignment is another one; must not block
	failed  func(error)               // reading has become impossible; must not block
	working func() map[place]struct{} // what the owner works on now; called without mu

	mu      sync.Mutex // guards the fields below
	conn    *conn      // where it joined, or is about to; nil while there is none
	joined  bool
	sub     uint32 // names the membership on conn
	waiting bool   // a join or heartbeat is not answered
	again   bool   // another heartbeat is due when it is
	asked   time.Time
	heard   time.Time // when the broker last answered
	now     assignment
	ended   bool
}

// newMembership prepares to join.
func (c *Client) newMembership(s *Source) *membership {
	return &membership{
		c: c, s: s, id: uuid.NewString(), every: max(s.SessionTimeout/4, time.Millisecond), heard: time.Now(),
	}
}

// start joins on the live connection, or on the next one.
func (m *membership) start() error {
	c := m.c
	c.mu.Lock()
	cn, err := c.conn, c.err
	if err == nil {
		c.members[m] = struct{}{}
	}
	c.mu.Unlock()
	if err == nil && cn != nil {
		m.resume(cn)
	}
	return err
}

// resume joins on another connection.
func (m *membership) resume(cn *conn) {
	working := m.working()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.conn, m.sub, m.joined, m.waiting, m.again = cn, 0, false, false, false
	m.joinLocked(working)
}

func (m *membership) joinLocked(working map[place]struct{}) {
	cn := m.conn
	j := wire.JoinGroup{
		Group: m.s.Name, Member: m.id, Instance: m.s.Instance, Topics: m.s.Topics,
		SessionMs: milliseconds(m.s.SessionTimeout), HandoverMs: milliseconds(m.s.HandoverTimeout), Claims: byTopic(working),
	}
	m.waiting, m.asked = true, time.Now()
	id, _ := cn.enqueue(wire.OpJoinGroup, 0, j.Append, func(f *frame, err error) { m.answered(cn, f, err, true) },
		func(id uint32) {
			delete(cn.members, m.sub)
			cn.members[id] = m
		})
	cn.wakeWriter()
	m.sub = id // 0 when the connection is dead: the next one joins
}

// byTopic sorts places by topic.
func byTopic(places map[place]struct{}) []wire.TopicPartitions {
	at := map[string]int{}
	var list []wire.TopicPartitions
	for p := range places {
		i, ok := at[p.topic]
		if !ok {
			i = len(list)
			at[p.topic] = i
			list = append(list, wire.TopicPartitions{Topic: p.topic})
		}
		list[i].Partitions = append(list[i].Partitions, p.partition)
	}
	return list
}

// beat says that the member lives, and what it has let go.
func (m *membership) beat() {
	m.mu.Lock()
	seen := m.now
	m.mu.Unlock()
	working := m.working() // after what was seen: what was let go in between is said with the next one
	m.mu.Lock()
	defer m.mu.Unlock()
	cn := m.conn
	switch {
	case m.ended || cn == nil:
		return
	case m.waiting:
		m.again = true
		return
	case !m.joined:
		m.joinLocked(working)
		return
	}
	for p := range working {
		if _, mine := seen.parts[p]; mine {
			delete(working, p)
		}
	}
	h := wire.Heartbeat{Group: m.s.Name, Member: m.id, Revision: seen.revision, Busy: byTopic(working)}
	m.waiting, m.asked = true, time.Now()
	cn.ask(wire.OpHeartbeat, 0, h.Append, func(f *frame, err error) { m.answeredLater(cn, f, err) })
}

// answeredLater takes the answer to a heartbeat. A dead connection answers at once, under mu.
func (m *membership) answeredLater(cn *conn, f *frame, err error) {
	if _, cut := lost(err); cut {
		return // the next connection joins again
	}
	m.answered(cn, f, err, false)
}

// answered takes the answer to a join or a heartbeat.
func (m *membership) answered(cn *conn, f *frame, err error, join bool) {
	if _, cut := lost(err); cut {
		return
	}
	m.mu.Lock()
	if m.conn != cn || m.ended {
		m.mu.Unlock()
		return
	}
	m.waiting, m.heard = false, time.Now()
	again := m.again
	m.again = false
	op := wire.OpHeartbeat
	if join {
		op = wire.OpJoinGroup
	}
	switch {
	case err == nil:
		m.joined = true
	case wire.CodeOf(err) == wire.CodeNotMember:
		m.joined, again = false, true
	case retryLater(err): // with the next beat
	default:
		m.mu.Unlock()
		m.failed(explain(err, op, "", anyPartition))
		return
	}
	m.mu.Unlock()
	if err == nil && f.Flags&wire.FlagUnchanged == 0 {
		m.assign(cn, f)
	}
	if again {
		go m.beat() // not on the connection's goroutine: it may take locks of the owner
	}
}

// assign takes an assignment.
func (m *membership) assign(cn *conn, f *frame) {
	var a wire.Assigned
	if err := a.Parse(f.Body); err != nil {
		cn.fail(fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	}
	next := assignment{revision: a.Revision, parts: map[place]grant{}}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			next.parts[place{t.Topic, p.Partition}] = grant{p.Generation, p.Paused}
		}
	}
	m.mu.Lock()
	stale := m.conn != cn || m.ended // on one connection they come in order
	if !stale {
		m.now, m.heard = next, time.Now()
	}
	m.mu.Unlock()
	if !stale {
		m.changed()
	}
}

// current returns what may be worked on now: nothing when the broker was not heard of for a session,
// because it has given everything to others by then.
func (m *membership) current() assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.heard) > m.s.SessionTimeout {
		m.now = assignment{}
	}
	return m.now
}

// check ends the connection when two heartbeats should have been answered by now.
func (m *membership) check() {
	m.mu.Lock()
	cn, waited := m.conn, time.Since(m.asked)
	stuck := cn != nil && m.waiting && waited > 2*m.every
	m.mu.Unlock()
	if stuck {
		m.c.stalled(Stall{What: "heartbeat", For: waited})
		cn.fail(errStalled)
	}
}

var errStalled = errors.New("heartbeats of a group's member are not answered")

// end gives the place up. A member without an instance tells the broker, so that its partitions go to
// others at once; one with an instance may come back.
func (m *membership) end(ctx context.Context) {
	c := m.c
	c.mu.Lock()
	delete(c.members, m)
	c.mu.Unlock()
	m.mu.Lock()
	cn, joined := m.conn, m.joined && !m.ended
	m.ended = true
	m.mu.Unlock()
	if cn == nil {
		return
	}
	cn.mu.Lock()
	delete(cn.members, m.sub)
	cn.mu.Unlock()
	if joined && m.s.Instance == "" {
		l := wire.LeaveGroup{Group: m.s.Name, Member: m.id}
		// Without an answer the broker finds out by itself.
		_, _ = cn.do(ctx, wire.OpLeaveGroup, 0, l.Append)
	}
}
