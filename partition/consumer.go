package partition

import (
	"errors"
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// Consumer state changes only through commands: each is appended to the partition's own log as a
// state entry and then applied, under mu, by the same code that replays it after a restart.

// replay rebuilds the state of consumers and producers from the log.
func (p *Partition) replay() error {
	if err := p.restore(p.log.State()); err != nil {
		return err
	}
	err := p.log.Replay(func(e wire.Entry) error {
		switch e.Kind {
		case wire.KindData:
			p.replayData(&e)
		case wire.KindState:
			if err := p.replayState(&e); err != nil {
				return fmt.Errorf("state entry %d: %w", e.Index, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.state.TruncatePrefix(p.First())
	return nil
}

// beginLocked lets the goroutines of the registry work on the state that was replayed. The caller holds producers.mu, too.
func (p *Partition) beginLocked() {
	for _, q := range p.state.Queues() {
		p.topic.registry.timer.add(p)
		p.doubt = p.doubt || q.Stats().Dead > 0
		p.buryLaterLocked(q)
	}
	if p.producers.ids.next > 0 {
		p.topic.registry.timer.add(p)
	}
	p.countLocked()
	p.dropped = p.log.Positions().NextIndex - 1 // not all of it may be durable
}

// restore replaces the state by a snapshot. An empty blob means that there is none.
func (p *Partition) restore(blob []byte) error {
	if len(blob) == 0 {
		return nil
	}
	consumers, expiring, err := p.producers.splitSnapshot(blob)
	if err != nil {
		return fmt.Errorf("restore producers: %w", err)
	}
	p.expiring.Store(expiring)
	state, err := group.Restore(consumers)
	if err != nil {
		return fmt.Errorf("restore consumer state: %w", err)
	}
	p.state = state
	return nil
}

// replayState applies a command of a consumer, or notes the used numbers of a producer.
func (p *Partition) replayState(e *wire.Entry) error {
	body := e.Payload[4:]
	if isUsed(body) {
		return p.producers.noteUsed(body, e.Index)
	}
	err := p.state.Apply(body)
	if errors.Is(err, group.ErrTooMany) { // it was refused when the entry was new, and is refused again
		return nil
	}
	return err
}

// replayData notes what later publishes depend on: producers, message ids and times to live. The checksum of the
// entry was checked. A batch that is malformed all the same is skipped; its readers report it.
func (p *Partition) replayData(e *wire.Entry) {
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return
	}
	if batch.Producer().ID != 0 {
		p.producers.note(batch.Producer(), batch.Count(), e.BaseOffset, e.Index)
	}
	if batch.HasIDs() && p.topic.Config().DedupeWindow > 0 {
		p.producers.ids.note(&batch, e.BaseOffset, e.Index, e.Time)
	}
	if batch.TTL() != 0 {
		p.expiring.Store(true)
	}
}

// snapshot returns the state of consumers and producers and the index of the last entry in it, for checkpoints.
func (p *Partition) snapshot() ([]byte, uint64) {
	blob, ids, expiring, index := p.capture()
	return appendExpiring(appendIDs(blob, ids), expiring), index
}

// capture copies what a snapshot contains. Holding both locks keeps out state entries and the batches of idempotent
// producers, so the copy includes every one of them below the log's next index. Of the message ids, of which there
// may be a million, it takes only a view, because publishes wait meanwhile.
func (p *Partition) capture() (blob []byte, ids [][]storedID, expiring bool, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	blob = p.producers.appendSnapshot(nil, p.state.AppendSnapshot(nil))
	return blob, p.producers.ids.live(), p.expiring.Load(), p.log.Positions().NextIndex - 1
}

// logLocked appends a command to the log and applies it. It returns the index of the state entry, which becomes durable
// later.
func (p *Partition) logLocked(command []byte, now time.Time) (index uint64, err error) {
	p.command = command[:0] // reuse its memory for the next command
	p.payload = wire.AppendPayload(p.payload[:0], command)
	_, index, err = p.log.Append(log.Batch{
		Kind: wire.KindState, Term: term, Time: nowMs(now), Payload: p.payload,
	})
	if err != nil {
		return 0, p.appendError(err)
	}
	if err := p.state.Apply(command); err != nil {
		panic("partition: own command refused: " + err.Error())
	}
	p.trackLocked()
	return index, nil
}

// StateLevel returns the durability that commits and settlements reach before they are answered.
func (p *Partition) StateLevel() wire.Level { return p.stateLevel }

// Commit stores a group's next offset. It returns the index of the state entry, for which Reached and StateLevel tell
// when the commit is durable. It refuses offsets beyond the visible end, and with CodeFenced a generation that does not
// hold the partition; generation 0 is that of a client that is no member. A member's commit below the committed offset
// changes nothing: the index is then that of the last entry, because the commit above it may not be durable yet. The
// error is a *wire.Error.
func (p *Partition) Commit(groupName string, offset uint64, generation uint32, now time.Time) (index uint64, err error) {
	if err := p.checkOffset(groupName, offset); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFenceLocked(groupName, generation); err != nil {
		return 0, err
	}
	if p.state.IsLate(groupName, offset, generation) {
		return p.log.Positions().NextIndex - 1, nil
	}
	return p.commitLocked(groupName, offset, now)
}

func (p *Partition) commitLocked(groupName string, offset uint64, now time.Time) (index uint64, err error) {
	if err := p.checkRoomLocked(groupName, group.ModeOffsets); err != nil {
		return 0, err
	}
	delete(p.heirs, groupName)
	before, _ := p.state.Committed(groupName)
	index, err = p.logLocked(group.AppendCommit(p.command[:0], groupName, offset, now), now)
	if err == nil && offset > before.Offset {
		p.ackedMessages.Add(offset - before.Offset)
	}
	p.countLocked()
	return index, err
}

// CheckCommit returns the error with which Commit would refuse, or nil.
func (p *Partition) CheckCommit(groupName string, offset uint64, generation uint32) error {
	if err := p.checkOffset(groupName, offset); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkFenceLocked(groupName, generation)
}

// checkOffset refuses invalid names and offsets beyond the visible end.
func (p *Partition) checkOffset(groupName string, offset uint64) error {
	if err := p.checkGroup(groupName); err != nil {
		return err
	}
	if visible := p.Visible(); offset > visible {
		return outOfRange(offset, p.First(), visible)
	}
	return nil
}

// Committed returns a group's committed offset and whether there is one.
func (p *Partition) Committed(groupName string) (group.Commit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Committed(groupName)
}

// CheckDrop returns the error with which DropGroup would refuse, or nil.
func (p *Partition) CheckDrop(groupName string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkMembersLocked(groupName)
}

// checkMembersLocked returns an error while a group has members that read the partition.
func (p *Partition) checkMembersLocked(groupName string) error {
	if p.state.MayCommit(groupName, 0) == nil {
		return nil
	}
	return wire.Errorf(wire.CodeFenced, "group %q has members that read %s", groupName, p)
}

// DropGroup forgets a group or queue. It returns the index of the state entry and whether there was something to
// forget. Otherwise the index is that of the last drop, which may not be durable yet, or 0 when there was none. It
// refuses while the group has members that read the partition.
func (p *Partition) DropGroup(groupName string, now time.Time) (index uint64, known bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.knowsLocked(groupName) {
		return p.dropped, false, nil
	}
	if err := p.checkMembersLocked(groupName); err != nil {
		return 0, true, err
	}
	index, err = p.dropLocked(groupName, now)
	return index, true, err
}

// dropInherited drops what a new partition has inherited. It keeps a group that is back: it was used here since, or has
// members.
func (p *Partition) dropInherited(groupName string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, unused := p.heirs[groupName]; !unused || p.checkMembersLocked(groupName) != nil {
		return nil
	}
	_, err := p.dropLocked(groupName, now)
	return err
}

func (p *Partition) dropLocked(groupName string, now time.Time) (index uint64, err error) {
	delete(p.heirs, groupName)
	if index, err = p.logLocked(group.AppendDrop(nil, groupName), now); err == nil {
		p.dropped = index
	}
	p.countLocked()
	return index, err
}

// Groups describes every group and queue of the partition. It does not wait for the disk: LagSeconds is 0 when
// the oldest message that is not done is on the disk only.
func (p *Partition) Groups(now time.Time) []wire.GroupInfo { return p.describe(p.log.Read, now) }

// GroupsCold is Groups with every LagSeconds filled in. It may wait for the disk, so it must not be called on an
// event loop.
func (p *Partition) GroupsCold(now time.Time) []wire.GroupInfo {
	return p.describe(p.log.ReadCold, now)
}

// AppendTimeCold returns when the record at offset was appended, or the zero time when it is unreadable. It may wait
// for the disk, so it must not be called on an event loop.
func (p *Partition) AppendTimeCold(offset uint64) time.Time {
	return p.appendTime(p.log.ReadCold, offset)
}

// logRead is Read or ReadCold of a log.
type logRead func(c *log.Chunk, offset, limit uint64, maxBytes int) error

func (p *Partition) appendTime(read logRead, offset uint64) time.Time {
	var c log.Chunk
	defer c.Release()
	if read(&c, offset, p.Visible(), 1) != nil || len(c.Slices) == 0 {
		return time.Time{}
	}
	e, _, err := wire.ViewEntry(c.Slices[0])
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(e.Time)
}

func (p *Partition) describe(read logRead, now time.Time) []wire.GroupInfo {
	if p.log == nil {
		return nil
	}
	infos := p.groupInfos()
	for i := range infos {
		g := &infos[i]
		if g.Lag == 0 {
			continue
		}
		if at := p.appendTime(read, max(g.Offset, p.First())); !at.IsZero() {
			g.LagSeconds = max(0, now.Sub(at).Seconds())
		}
	}
	return infos
}

// groupInfos describes the groups without LagSeconds, which needs a read that must not hold mu.
func (p *Partition) groupInfos() []wire.GroupInfo {
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	var infos []wire.GroupInfo
	for _, g := range p.state.Groups() {
		info := wire.GroupInfo{
			Group: g.Name, Mode: "group", Topic: p.topic.name, Partition: int(p.number), End: visible,
			Offset: g.Offset, Paused: p.state.Paused(g.Name),
		}
		if g.Mode == group.ModeQueue {
			q := p.state.Queue(g.Name)
			s := q.Stats()
			info.Mode, info.Lag = "queue", q.Backlog(visible)
			info.InFlight, info.Retrying, info.Parked, info.Dead = s.InFlight, s.Redelivering, s.Parked, s.Dead
			policy := q.Policy()
			info.OrderByKey, info.DeadLetter = policy.OrderByKey, p.deadLetterName(g.Name, policy)
		} else {
			info.Lag = visible - min(visible, max(g.Offset, p.First()))
			c, _ := p.state.Committed(g.Name)
			info.CommittedAt = c.At
		}
		infos = append(infos, info)
	}
	return infos
}

// checkRoomLocked refuses a new group when the partition, or the broker, has as many as it may.
func (p *Partition) checkRoomLocked(name string, mode group.Mode) error {
	if err := p.checkOwnRoomLocked(name, mode); err != nil {
		return err
	}
	_, known := p.state.Committed(name)
	if mode == group.ModeQueue {
		known = p.state.Queue(name) != nil
	}
	if known {
		return nil
	}
	return p.checkTotal(name)
}

// checkOwnRoomLocked refuses a new group when the partition has as many as it may.
func (p *Partition) checkOwnRoomLocked(name string, mode group.Mode) error {
	if err := p.state.Check(name, mode); err != nil {
		return wire.Errorf(wire.CodeLimit, "%s has no room for group %q: %v", p, name, err)
	}
	return nil
}

// checkTotal refuses another group, queue or pause when all partitions together have as many as they may.
func (p *Partition) checkTotal(name string) error {
	r := p.topic.registry
	if most := int64(r.opts.MaxGroups); r.groups.Load() >= most {
		return wire.Errorf(wire.CodeLimit, "%s has no room for group %q: the partitions of this broker have %d already", p, name, most)
	}
	return nil
}

// countLocked counts what the state remembers of groups. A new partition counts what it has inherited as soon as somebody
// uses it, for until then it may be given up; one whose topic was deleted counts nothing.
func (p *Partition) countLocked() {
	n := p.state.Size()
	if errors.Is(p.Err(), wire.CodeTopicDeleted) {
		n = 0
	}
	p.topic.registry.groups.Add(int64(n - p.counted))
	p.counted = n
	p.trackLocked()
}

// truncated brings the consumer state up to the log's start, after retention or a purge moved that.
func (p *Partition) truncated() {
	p.mu.Lock()
	p.lostUndelivered.Add(p.state.TruncatePrefix(p.First()))
	p.trackLocked()
	p.mu.Unlock()
	p.moved() // a queue that was full may have room
}

func (p *Partition) checkGroup(name string) error {
	if err := p.Err(); err != nil {
		return err
	}
	return CheckGroup(name)
}

// CheckGroup returns a *wire.Error with CodeInvalid when name is not a valid group name. The rules are those of
// topic names.
func CheckGroup(name string) error {
	return wire.CheckName("group", name)
}
