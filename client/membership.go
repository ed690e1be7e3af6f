package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// tenure names the time in which a member owns partitions; the zero tenure is that of who is no member.
type tenure struct {
	// broker is the id of the broker, which every start changes: one that has lost its data, or was restored from a
	// backup, may give out a generation once more.
	broker     [16]byte
	generation uint32
}

// grant is an assigned partition.
type grant struct {
	tenure
	paused bool
}

// assignment is what a member may work on. It is immutable.
type assignment struct {
	revision uint32
	parts    map[place]grant
	from     *conn // where it arrived; nil for the empty one
}

// isHeld reports whether the broker that sent the assignment stops, or cannot be reached. The member has to join again before
// it handles more.
func (a assignment) isHeld() bool { return a.from != nil && a.from.isOver() }

// membership keeps one member in its group: it joins, sends heartbeats, joins again on the next
// connection, and holds the current assignment.
type membership struct {
	c       *Client
	s       *Source
	id      string
	every   time.Duration
	changed func()                    // called when the assignment has changed; must not block
	failed  func(error)               // called when reading has become impossible; must not block
	working func() map[place]struct{} // returns what is being worked on; called without mu
	hold    func()                    // called when the broker stops or cannot be reached; must not block
	settle  func(context.Context)     // called after hold; commits what is handled
	entered chan struct{}             // closed when the broker has taken the member for the first time

	mu      sync.Mutex // guards the fields below
	conn    *conn      // where the member joined, or is about to join; nil before the first
	joined  bool
	sub     uint32    // names the membership on conn
	waiting bool      // a join or heartbeat is in progress
	again   bool      // send another heartbeat after it
	asked   time.Time // when the first of them was sent that is not answered
	sent    time.Time // when the last one was sent
	seen    motion    // of conn
	moved   time.Time // when conn was last seen to move
	heard   time.Time // when the broker last answered
	now     assignment
	ended   bool
}

// newMembership prepares to join.
func (c *Client) newMembership(s *Source) *membership {
	return &membership{
		c: c, s: s, id: uuid.NewString(), every: max(s.SessionTimeout/4, time.Millisecond), heard: time.Now(),
		entered: make(chan struct{}),
	}
}

// settleTime bounds what settleGroups does.
const settleTime = time.Second

// holdGroups makes the members of groups handle nothing until they have joined elsewhere. What they handled from now
// on would be handled again, because a broker that has stopped takes no commits.
func (c *Client) holdGroups() (members []*membership) {
	c.mu.Lock()
	members = slices.Collect(maps.Keys(c.members))
	c.mu.Unlock()
	for _, m := range members {
		m.hold()
	}
	return members
}

// settleGroups commits what members have handled that holdGroups has returned.
func (c *Client) settleGroups(members []*membership) {
	ctx, cancel := context.WithTimeout(c.ctx, settleTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() { m.settle(ctx) })
	}
	wg.Wait()
}

// start joins on the live connection, or on the next one.
func (m *membership) start() error {
	c := m.c
	c.mu.Lock()
	cn, err := c.conn.Load(), c.err
	if err == nil {
		c.members[m] = struct{}{}
	}
	c.mu.Unlock()
	if err == nil && cn != nil {
		m.resume(cn)
	}
	return err
}

// resume joins on a new connection.
func (m *membership) resume(cn *conn) {
	working := m.working()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.conn, m.sub, m.joined, m.waiting, m.again = cn, 0, false, false, false
	m.seen, m.moved = motion{}, time.Now()
	m.joinLocked(working)
}

func (m *membership) joinLocked(working map[place]struct{}) {
	cn := m.conn
	j := wire.JoinGroup{
		Group: m.s.Name, Member: m.id, Instance: m.s.Instance, Topics: m.s.Topics,
		SessionMs: waitMs(m.s.SessionTimeout), HandoverMs: waitMs(m.s.HandoverTimeout), Claims: byTopic(working),
	}
	m.sentLocked()
	id, _ := cn.enqueue(wire.OpJoinGroup, 0, j.Append, func(f *frame, err error) { m.answered(cn, f, err, true) },
		func(id uint32) {
			delete(cn.members, m.sub)
			cn.members[id] = m
		})
	cn.wakeWriter()
	m.sub = id // 0 when the connection is dead; the member joins on the next one
}

// byTopic groups places by topic.
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

// sentLocked notes that a join or heartbeat is about to be sent.
func (m *membership) sentLocked() {
	m.sent = time.Now()
	if !m.waiting {
		m.waiting, m.asked = true, m.sent
	}
}

// beat sends a heartbeat, which also tells the broker what the member has released. While a join or
// heartbeat is in progress, it is sent after that one. But a heartbeat does not wait for longer than the interval: on a
// slow network the answer may take as long as the session.
func (m *membership) beat() {
	m.mu.Lock()
	seen := m.now
	m.mu.Unlock()
	working := m.working() // read after seen: what is released in between is reported by the next beat
	m.mu.Lock()
	defer m.mu.Unlock()
	cn := m.conn
	switch {
	case m.ended || cn == nil:
		return
	case m.waiting && (!m.joined || time.Since(m.sent) < m.every*3/4):
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
	m.sentLocked()
	cn.ask(wire.OpHeartbeat, 0, h.Append, func(f *frame, err error) { m.answered(cn, f, err, false) })
}

// answered takes the answer to a join or a heartbeat.
func (m *membership) answered(cn *conn, f *frame, err error, join bool) {
	if _, cut := lost(err); cut { // the next connection joins again; beat may be the caller, and holds mu
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
		m.enterLocked()
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
		go m.beat() // not on the connection's reader, because it may wait for locks of the owner
	}
}

func (m *membership) enterLocked() {
	select {
	case <-m.entered:
	default:
		close(m.entered)
	}
}

// assign takes an assignment that the broker sent.
func (m *membership) assign(cn *conn, f *frame) {
	var a wire.Assigned
	if err := a.Parse(f.Body); err != nil {
		cn.fail(fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	}
	next := assignment{revision: a.Revision, parts: map[place]grant{}, from: cn}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			next.parts[place{t.Topic, p.Partition}] = grant{tenure{cn.hello.ServerID, p.Generation}, p.Paused}
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

// current returns the assignment. It is empty after a session without word from the broker, which
// has given the partitions to others by then.
func (m *membership) current() assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.heard) > m.s.SessionTimeout {
		m.now = assignment{}
	}
	return m.now
}

// check ends the connection when the broker has left two heartbeats unanswered. On one that moves the answers may be
// behind other data, so they get three sessions of time.
func (m *membership) check() {
	m.mu.Lock()
	cn, waited := m.conn, time.Since(m.asked)
	if cn != nil && cn.moves(&m.seen) {
		m.moved = time.Now()
	}
	silent := min(waited, time.Since(m.moved)) > 2*m.every || waited > 3*m.s.SessionTimeout
	stuck := cn != nil && m.waiting && silent
	m.mu.Unlock()
	if stuck {
		m.c.stalled(Stall{What: "heartbeat", For: waited})
		cn.fail(errStalled)
	}
}

var errStalled = errors.New("the broker does not answer the heartbeats of a group's member")

// end leaves the group. A member without an instance tells the broker, so that its partitions move
// to others at once; the answer to its join may still be on its way. One with an instance may come back, so it leaves
// silently.
func (m *membership) end(ctx context.Context) {
	c := m.c
	c.mu.Lock()
	delete(c.members, m)
	c.mu.Unlock()
	m.mu.Lock()
	cn, joined := m.conn, m.joined
	m.ended = true
	m.mu.Unlock()
	if cn == nil {
		return
	}
	cn.mu.Lock()
	delete(cn.members, m.sub)
	cn.mu.Unlock()
	// The answer does not matter: without the request the session times out.
	switch l := (wire.LeaveGroup{Group: m.s.Name, Member: m.id}); {
	case m.s.Instance != "":
	case joined:
		_, _ = cn.do(ctx, wire.OpLeaveGroup, 0, l.Append)
	default:
		cn.ask(wire.OpLeaveGroup, 0, l.Append, func(*frame, error) {})
	}
}
