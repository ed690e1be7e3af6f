package group

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
)

// modelMessage is what the model knows about one message that is neither done nor fresh.
type modelMessage struct {
	attempts, fails uint32
	leased, dead    bool
	deadline, due   int64
	owner           uint64
	since           int64 // seconds
	reason          string
	died            int64
}

// model is a queue in the most naive form: a map with every message.
type model struct {
	policy              Policy
	messages            map[uint64]*modelMessage
	next, settled, gone uint64
}

// modelKey is the key of the message at an offset: 0 for none, and some keys are much more frequent
// than others.
func modelKey(offset uint64) uint64 {
	x := mix(offset)
	return min(x%12, x>>32%12)
}

// blocked reports whether an earlier message of the key is neither done nor a dead letter.
func (m *model) blocked(offset uint64) bool {
	if !m.policy.OrderByKey || modelKey(offset) == 0 {
		return false
	}
	for before, msg := range m.messages {
		if before < offset && !msg.dead && modelKey(before) == modelKey(offset) {
			return true
		}
	}
	return false
}

func (m *model) offsets() []uint64 { return slices.Sorted(maps.Keys(m.messages)) }

func (m *model) lease(
	most int, limit uint64, d time.Duration, owner uint64, now time.Time,
) map[uint64]uint32 {
	got := make(map[uint64]uint32)
	take := func(offset uint64, msg *modelMessage) {
		msg.leased, msg.owner, msg.deadline = true, owner, now.Add(d).UnixMilli()
		msg.attempts++
		got[offset] = msg.attempts
	}
	for _, offset := range m.offsets() {
		msg := m.messages[offset]
		ready := !msg.leased && !msg.dead && msg.due <= now.UnixMilli()
		if ready && len(got) < most && offset < limit && !m.blocked(offset) {
			take(offset, msg)
		}
	}
	for len(got) < most && m.next < limit {
		m.messages[m.next] = &modelMessage{}
		if !m.blocked(m.next) {
			take(m.next, m.messages[m.next])
		}
		m.next++
	}
	return got
}

// held returns the offsets of s that are leased under their attempt, and how many others there are.
func (m *model) held(s []Settle) (list []uint64, lost int) {
	for _, p := range s {
		for offset := p.First; offset < p.First+uint64(p.Count); offset++ {
			msg := m.messages[offset]
			if msg == nil || !msg.leased || msg.attempts != p.Attempt {
				lost++
				continue
			}
			list = append(list, offset)
		}
	}
	return list, lost
}

func (m *model) release(owner uint64, now time.Time) {
	for _, msg := range m.messages {
		if !msg.leased || msg.owner != owner {
			continue
		}
		if msg.attempts >= uint32(m.policy.MaxDeliveries) {
			msg.owner, msg.deadline = 0, min(msg.deadline, now.UnixMilli())
			continue
		}
		msg.leased = false
	}
}

func (m *model) reach(end uint64) {
	m.settled = max(m.settled, end)
	for ; m.next < end; m.next++ {
		m.messages[m.next] = &modelMessage{}
	}
}

func (m *model) ack(list []uint64) {
	for _, offset := range list {
		if offset < m.gone {
			continue
		}
		m.reach(offset + 1)
		if msg := m.messages[offset]; msg != nil && !msg.dead {
			delete(m.messages, offset)
		}
	}
}

// failure is one message of a fail command. due is never for a dead letter.
type failure struct {
	offset  uint64
	attempt uint32
	due     int64
}

func (m *model) fail(list []failure, reason string, at time.Time) {
	for _, f := range list {
		if f.offset < m.gone {
			continue
		}
		m.reach(f.offset + 1)
		msg := m.messages[f.offset]
		if msg == nil || msg.dead || msg.fails >= f.attempt {
			continue
		}
		if msg.fails == 0 {
			msg.since = at.Unix()
		}
		msg.fails = f.attempt
		if f.due == never {
			msg.dead, msg.leased, msg.attempts = true, false, f.attempt
			msg.reason, msg.died = reason, at.UnixMilli()
			continue
		}
		msg.due = f.due
		if msg.attempts <= f.attempt {
			msg.attempts, msg.leased = f.attempt, false
		}
	}
}

// failures plans a fail of the offsets. A negative delay is the backoff.
func (m *model) failures(list []uint64, delay time.Duration, now time.Time) []failure {
	var out []failure
	for _, offset := range list {
		f := failure{offset, m.messages[offset].attempts, never}
		if f.attempt < uint32(m.policy.MaxDeliveries) {
			f.due = now.Add(delay).UnixMilli()
			if delay < 0 {
				f.due = now.UnixMilli() + int64(m.policy.backoff(offset, uint16(f.attempt)))
			}
		}
		out = append(out, f)
	}
	return out
}

func (m *model) bury(list []uint64) {
	for _, offset := range list {
		if msg := m.messages[offset]; msg != nil && msg.dead {
			delete(m.messages, offset)
		}
	}
}

func (m *model) truncate(first uint64) (lost uint64) {
	m.gone = max(m.gone, first)
	for ; m.next < first; m.next++ {
		lost++
	}
	for offset, msg := range m.messages {
		if offset >= first {
			continue
		}
		if !msg.leased {
			lost++
		}
		delete(m.messages, offset)
	}
	m.settled = max(m.settled, first)
	return lost
}

// restart forgets what is soft.
func (m *model) restart() {
	for offset, msg := range m.messages {
		if offset >= m.settled {
			delete(m.messages, offset)
			continue
		}
		msg.attempts, msg.leased = msg.fails, false
	}
	m.next = m.settled
}

// planned is a command that was not applied yet, with what it does to the model.
type planned struct {
	cmd   []byte
	apply func()
}

// modelRun drives a State and a model with the same random operations.
type modelRun struct {
	t       *testing.T
	rng     *rand.Rand
	wide    bool
	state   *State
	model   model
	now     time.Time
	limit   uint64    // end of the partition
	log     []planned // all that was applied; a truncation is an apply without cmd
	pending []planned
	firsts  []uint64 // the truncations
}

const modelQueue = "work"

func (m *modelRun) queue() *Queue { return m.state.Queue(modelQueue) }

// plan notes a command; it is often applied at once, and sometimes behind later plans.
func (m *modelRun) plan(cmd []byte, apply func()) {
	if cmd == nil {
		return
	}
	m.pending = append(m.pending, planned{cmd, apply})
	if m.rng.IntN(4) > 0 {
		m.flush()
	}
}

func (m *modelRun) flush() {
	for _, p := range m.pending {
		require.NoError(m.t, m.state.Apply(p.cmd))
		p.apply()
	}
	m.log = append(m.log, m.pending...)
	m.pending = nil
}

// settles picks ranges that are often leased and sometimes nonsense.
func (m *modelRun) settles() []Settle {
	var list []Settle
	offsets := m.model.offsets()
	for range 1 + m.rng.IntN(4) {
		s := Settle{
			First:   uint64(m.rng.IntN(int(m.limit) + 1)),
			Count:   uint32(m.rng.IntN(5)),
			Attempt: uint32(m.rng.IntN(4)),
		}
		if len(offsets) > 0 && m.rng.IntN(10) > 0 {
			s.First = offsets[m.rng.IntN(len(offsets))]
			s.Attempt = m.model.messages[s.First].attempts
			s.Count = uint32(1 + m.rng.IntN(8))
		}
		if m.wide && m.rng.IntN(20) == 0 {
			s.Count = uint32(m.rng.IntN(300))
		}
		list = append(list, s)
	}
	return list
}

func (m *modelRun) lease() {
	most, owner := 1+m.rng.IntN(12), uint64(m.rng.IntN(5))
	if m.wide && m.rng.IntN(3) == 0 {
		most = m.rng.IntN(600)
	}
	limit := m.limit
	if m.rng.IntN(8) == 0 {
		limit = uint64(m.rng.IntN(int(m.limit) + 1))
	}
	d := time.Duration(m.rng.IntN(3)) * 10 * time.Second
	want := m.model.lease(most, limit, cmpDuration(d, m.model.policy.Lease), owner, m.now)
	got := make(map[uint64]uint32)
	for _, l := range m.leases(most, limit, d, owner) {
		require.Positive(m.t, l.Count)
		for i := range uint64(l.Count) {
			_, twice := got[l.First+i]
			require.False(m.t, twice)
			got[l.First+i] = l.Attempt
		}
	}
	require.Equal(m.t, want, got)
}

// leases calls Lease, and tells the queue the keys that it asks for in pieces of any size.
func (m *modelRun) leases(most int, limit uint64, d time.Duration, owner uint64) (list []Lease) {
	left := most
	for {
		from, wants := m.queue().WantsKeys(limit)
		if wants {
			var keys []uint64
			for offset := from; offset < min(m.limit, from+1+uint64(m.rng.IntN(40))); offset++ {
				keys = append(keys, modelKey(offset))
			}
			m.queue().LearnKeys(from, keys)
			if at, more := m.queue().WantsKeys(limit); more && at < m.queue().next {
				continue // what is pending comes before anything can be leased
			}
		}
		had := len(list)
		list = m.queue().Lease(list, left, limit, d, owner, m.now)
		for _, l := range list[had:] {
			left -= int(l.Count)
		}
		if _, wants = m.queue().WantsKeys(limit); left == 0 || !wants {
			return list
		}
	}
}

// reopen changes the policy: order by key comes or goes.
func (m *modelRun) reopen() {
	policy := m.model.policy
	policy.OrderByKey = !policy.OrderByKey
	m.flush()
	m.plan(AppendOpen(nil, modelQueue, 0, policy), func() { m.model.policy = policy })
	m.flush()
}

// discard makes messages done that nobody has leased.
func (m *modelRun) discard() {
	s := []Settle{{First: uint64(m.rng.IntN(int(m.limit) + 1)), Count: uint32(1 + m.rng.IntN(3))}}
	var list []uint64
	left := 0
	for offset := s[0].First; offset < s[0].First+uint64(s[0].Count); offset++ {
		msg := m.model.messages[offset]
		if offset < m.limit && (offset >= m.model.next || msg != nil && !msg.leased && !msg.dead) {
			list = append(list, offset)
			continue
		}
		left++
	}
	cmd, got := m.queue().PlanDiscard(nil, s, m.limit)
	require.Equal(m.t, left, got)
	require.Equal(m.t, len(list) == 0, cmd == nil)
	m.plan(cmd, func() { m.model.ack(list) })
	m.flush()
}

func cmpDuration(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

func (m *modelRun) ack() {
	s := m.settles()
	list, lost := m.model.held(s)
	cmd, got := m.queue().PlanAck(nil, s)
	require.Equal(m.t, lost, got)
	require.Equal(m.t, len(list) == 0, cmd == nil)
	m.plan(cmd, func() { m.model.ack(list) })
}

func (m *modelRun) nack() {
	s, now := m.settles(), m.now
	delay := time.Duration(m.rng.IntN(4)-1) * 700 * time.Millisecond
	list, lost := m.model.held(s)
	fails := m.model.failures(list, delay, now)
	cmd, got := m.queue().PlanNack(nil, s, delay, "nacked", now)
	require.Equal(m.t, lost, got)
	require.Equal(m.t, len(list) == 0, cmd == nil)
	m.plan(cmd, func() { m.model.fail(fails, "nacked", now) })
}

// giveBack returns messages that nobody worked on.
func (m *modelRun) giveBack() {
	m.flush()
	s, lost := m.settles(), 0
	for i := range s { // ranges may overlap
		list, others := m.model.held(s[i : i+1])
		lost += others
		for _, offset := range list {
			msg := m.model.messages[offset]
			msg.leased = false
			msg.attempts--
		}
	}
	require.Equal(m.t, lost, m.queue().Return(s))
}

func (m *modelRun) reject() {
	s, now := m.settles()[:1], m.now
	list, lost := m.model.held(s)
	fails := m.model.failures(list, 0, now)
	for i := range fails {
		fails[i].due = never
	}
	cmd, got := m.queue().PlanReject(nil, s, "rejected", now)
	require.Equal(m.t, lost, got)
	m.plan(cmd, func() { m.model.fail(fails, "rejected", now) })
}

func (m *modelRun) expire() {
	now := m.now
	var list []uint64
	for _, offset := range m.model.offsets() {
		if msg := m.model.messages[offset]; msg.leased && msg.deadline <= now.UnixMilli() {
			list = append(list, offset)
		}
	}
	fails := m.model.failures(list, -1, now)
	cmd, n := m.queue().PlanExpire(nil, now)
	require.Equal(m.t, len(list), n)
	m.plan(cmd, func() { m.model.fail(fails, "lease expired", now) })
}

func (m *modelRun) extend() {
	s := m.settles()
	list, lost := m.model.held(s)
	for _, offset := range list {
		m.model.messages[offset].deadline = m.now.Add(5 * time.Second).UnixMilli()
	}
	require.Equal(m.t, lost, m.queue().Extend(s, 5*time.Second, m.now))
}

func (m *modelRun) bury() {
	asked := []uint64{uint64(m.rng.IntN(int(m.limit) + 1))}
	for _, d := range m.queue().Dead() {
		if m.rng.IntN(3) > 0 {
			asked = append(asked, d.Offset)
		}
	}
	m.rng.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	var list []uint64
	for _, offset := range asked {
		if msg := m.model.messages[offset]; msg != nil && msg.dead {
			list = append(list, offset)
		}
	}
	m.plan(m.queue().PlanBuried(nil, asked), func() { m.model.bury(list) })
}

func (m *modelRun) truncate() {
	first := m.queue().Stats().Floor + uint64(m.rng.IntN(30))
	first = min(first, m.limit)
	truncate := func() { m.state.TruncatePrefix(first) }
	if first > m.model.gone {
		require.Equal(m.t, m.model.truncate(first), m.state.TruncatePrefix(first))
	}
	m.firsts = append(m.firsts, first)
	m.log = append(m.log, planned{apply: truncate})
}

func (m *modelRun) step() {
	switch n := m.rng.IntN(100); {
	case n < 10:
		m.limit += uint64(m.rng.IntN(10))
		if m.wide {
			m.limit += uint64(m.rng.IntN(120))
		}
	case n < 20:
		m.now = m.now.Add(time.Duration(m.rng.IntN(2000)) * time.Millisecond)
	case n < 45:
		m.lease()
	case n < 65:
		m.ack()
	case n < 75:
		m.nack()
	case n < 79:
		m.reject()
	case n < 85:
		m.expire()
	case n < 88:
		m.extend()
	case n < 90:
		m.giveBack()
	case n < 94:
		m.bury()
	case n < 97:
		owner := uint64(m.rng.IntN(5))
		m.queue().ReleaseOwner(owner, m.now)
		m.model.release(owner, m.now)
	case n < 98:
		m.truncate()
	case n < 99:
		if m.rng.IntN(10) == 0 {
			m.reopen()
			return
		}
		m.discard()
	default:
		m.flush()
	}
}

// check compares everything that can be seen of the queue with the model.
func (m *modelRun) check() {
	q := m.queue()
	checkTree(m.t, &q.runs)
	want := Stats{Next: m.model.next, Floor: m.model.next, Acked: q.acked}
	expiry, deadline := int64(never), int64(never)
	var dead []Dead
	seen := make(map[uint64]run)
	for r := range q.runs.each {
		for i := range r.count {
			seen[r.first+i] = r
		}
	}
	for _, offset := range m.model.offsets() {
		msg := m.model.messages[offset]
		want.Floor = min(want.Floor, offset)
		switch {
		case msg.dead:
			want.Dead++
			dead = append(dead, Dead{
				offset, msg.attempts, msg.reason, time.Unix(msg.since, 0), time.UnixMilli(msg.died),
			})
		case msg.leased:
			want.InFlight++
			expiry = min(expiry, msg.deadline)
		case q.order != nil && offset < q.order.known && m.model.blocked(offset):
			want.Parked++
		default:
			want.Redelivering++
			deadline = min(deadline, msg.due)
		}
		r := seen[offset]
		require.Equal(m.t, msg.attempts, uint32(r.attempts), "attempts of %d", offset)
		require.Equal(m.t, msg.fails, uint32(r.fails), "fails of %d", offset)
		require.Equal(m.t, msg.leased, r.leased(), "lease of %d", offset)
	}
	require.Equal(m.t, want, q.Stats())
	require.Len(m.t, seen, len(m.model.messages))
	require.Equal(m.t, dead[:min(len(dead), maxDeadBatch)], q.Dead()[:min(len(dead), maxDeadBatch)])
	m.moment(expiry)(q.Expiry())
	m.moment(min(expiry, deadline))(q.Deadline())
	limit := uint64(m.rng.IntN(int(m.limit) + 1))
	m.pendings(limit)
	var backlog uint64
	for offset := range m.model.messages {
		if offset < limit {
			backlog++
		}
	}
	backlog += max(limit, m.model.next) - m.model.next
	require.Equal(m.t, backlog, q.Backlog(limit))
}

// pendings compares the ranges of what is not done.
func (m *modelRun) pendings(limit uint64) {
	from, seen := uint64(m.rng.IntN(int(m.limit)+1)), map[uint64]Pending{}
	for _, p := range m.queue().Pending(nil, from, limit, 1<<20) {
		for i := range p.Count {
			seen[p.First+i] = p
		}
	}
	for offset := from; offset < limit; offset++ {
		msg := m.model.messages[offset]
		p, ok := seen[offset]
		require.Equal(m.t, msg != nil || offset >= m.model.next, ok, "offset %d", offset)
		if !ok {
			continue
		}
		delete(seen, offset)
		require.Equal(m.t, msg == nil, p.Phase == PhaseFresh)
		if msg != nil {
			require.Equal(m.t, msg.leased, p.Phase == PhaseLeased)
			require.Equal(m.t, msg.dead, p.Phase == PhaseDead)
			require.Equal(m.t, msg.attempts, p.Attempts)
		}
	}
	require.Empty(m.t, seen)
}

func (m *modelRun) moment(want int64) func(time.Time, bool) {
	return func(got time.Time, ok bool) {
		require.Equal(m.t, want != never, ok)
		if ok {
			require.Equal(m.t, want, got.UnixMilli())
		}
	}
}

// replay builds the state again from the commands alone, and from its snapshot. Half of the time it
// goes on with the rebuilt one, as after a restart.
func (m *modelRun) replay() {
	snapshot := m.state.AppendSnapshot(nil)
	live := m.state
	m.state = New()
	for _, p := range m.log {
		if p.cmd != nil {
			require.NoError(m.t, m.state.Apply(p.cmd))
			continue
		}
		p.apply()
	}
	require.Equal(m.t, snapshot, m.state.AppendSnapshot(nil), "replay")
	late := New()
	for _, p := range m.log {
		if p.cmd != nil {
			require.NoError(m.t, late.Apply(p.cmd))
		}
	}
	for _, first := range m.firsts {
		late.TruncatePrefix(first)
	}
	require.Equal(m.t, snapshot, late.AppendSnapshot(nil), "truncations after the replay")
	restored, err := Restore(snapshot)
	require.NoError(m.t, err)
	require.Equal(m.t, snapshot, restored.AppendSnapshot(nil), "restore")
	switch m.rng.IntN(4) {
	case 0:
		m.state = restored
	case 1:
	default:
		m.state = live
		return
	}
	m.pending = nil
	m.model.restart()
}

func runModel(t *testing.T, seed uint64, wide, ordered bool, steps, every int) {
	m := &modelRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), wide: wide,
		state: New(), now: time.UnixMilli(1_700_000_000_000),
	}
	start := uint64(m.rng.IntN(3))
	m.limit = start
	m.model = model{
		messages: make(map[uint64]*modelMessage), next: start, settled: start,
		policy: Policy{Lease: 3 * time.Second, MaxDeliveries: 1 + m.rng.IntN(5), OrderByKey: ordered}.normal(),
	}
	m.plan(AppendOpen(nil, modelQueue, start, m.model.policy), func() {})
	m.flush()
	for i := range steps {
		m.step()
		if i%every == 0 {
			m.check()
		}
		if i%(steps/8) == steps/8-1 {
			m.check()
			m.replay()
			m.check()
		}
	}
}

func TestModelOfAQueue(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) { runModel(t, seed, false, false, 4000, 10) })
}

func TestModelOfAQueueWithManyRanges(t *testing.T) {
	seeds.Each(t, 1, func(t *testing.T, seed uint64) { runModel(t, seed, true, false, 3000, 250) })
}

func TestModelOfAQueueWithOrderByKey(t *testing.T) {
	seeds.Each(t, 6, func(t *testing.T, seed uint64) { runModel(t, seed, false, true, 1500, 25) })
}

func TestModelOfAQueueWithOrderByKeyAndManyMessages(t *testing.T) {
	seeds.Each(t, 1, func(t *testing.T, seed uint64) { runModel(t, seed, true, true, 600, 100) })
}
