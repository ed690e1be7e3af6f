package partition

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// Consumer state changes only through commands: each is appended to the partition's own log as a
// state entry and then applied, under mu, by the same code that replays it after a restart.

// replay rebuilds what is known of consumers and producers from the log.
func (p *Partition) replay() error {
	if err := p.restore(p.log.State()); err != nil {
		return err
	}
	err := p.log.Replay(func(e wire.Entry) error {
		if e.Kind == wire.KindData {
			p.replayData(&e)
		}
		if e.Kind != wire.KindState {
			return nil
		}
		// A group over the limit was refused when the entry was new, too.
		if err := p.state.Apply(e.Payload[4:]); err != nil && !errors.Is(err, group.ErrTooMany) {
			return fmt.Errorf("state entry %d: %w", e.Index, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.state.TruncatePrefix(p.First())
	for _, q := range p.state.Queues() {
		p.topic.registry.timer.add(p)
		p.doubt = p.doubt || q.Stats().Dead > 0
		p.buryLater(q)
	}
	return nil
}

// restore takes over a snapshot; an empty one is none.
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

// CheckState returns why what a checkpoint says of a partition's consumers and producers cannot be read.
func CheckState(id wire.Identity, blob []byte) error {
	if id.Topic == [16]byte{} || id.Partition&companion != 0 {
		return nil // not a partition's
	}
	return new(Partition).restore(blob)
}

// replayData notes what later publishes depend on. The entry's checksum was checked; a batch that is
// damaged in itself is its readers' business.
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

// snapshot is the checkpointer's hook. Holding both locks keeps state entries and the batches of
// idempotent producers out, so the state includes every one of them below the log's next index.
func (p *Partition) snapshot() ([]byte, uint64) {
	blob, ids, expiring, index := p.capture()
	return appendExpiring(appendIDs(blob, ids), expiring), index
}

// capture takes everything that a snapshot says at one moment. Of the message ids, up to a million, it
// takes no more than where they are: publishes wait for it.
func (p *Partition) capture() (blob []byte, ids []storedID, expiring bool, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	p.producers.ids.forget(nowMs(p.topic.registry.opts.Now()) - p.topic.Config().DedupeWindow.Milliseconds())
	blob = p.producers.appendSnapshot(nil, p.state.AppendSnapshot(nil))
	return blob, p.producers.ids.live(), p.expiring.Load(), p.log.Positions().NextIndex - 1
}

// logLocked appends a command and applies it. The returned index reaches durability later.
func (p *Partition) logLocked(command []byte, now time.Time) (index uint64, err error) {
	p.command = command[:0] // its memory is the next command's
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
	return index, nil
}

// StateLevel is how durable commits and settlements become before they are answered.
func (p *Partition) StateLevel() wire.Level { return p.stateLevel }

// Commit stores a group's next offset. It returns the index of the state entry, to be awaited with
// Reached and StateLevel. Offsets beyond the visible end are refused, and generations that SetFence
// did not let through; 0 is nobody's.
func (p *Partition) Commit(groupName string, offset uint64, generation uint32, now time.Time) (index uint64, err error) {
	if err := p.checkOffset(groupName, offset); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFence(groupName, generation); err != nil {
		return 0, err
	}
	return p.commitLocked(groupName, offset, now)
}

func (p *Partition) commitLocked(groupName string, offset uint64, now time.Time) (index uint64, err error) {
	if err := p.checkRoom(groupName, group.ModeOffsets); err != nil {
		return 0, err
	}
	before, _ := p.state.Committed(groupName)
	index, err = p.logLocked(group.AppendCommit(p.command[:0], groupName, offset, now), now)
	if err == nil && offset > before.Offset {
		p.ackedMessages.Add(offset - before.Offset)
	}
	return index, err
}

// CheckCommit returns the error that Commit would return before it tries.
func (p *Partition) CheckCommit(groupName string, offset uint64, generation uint32) error {
	if err := p.checkOffset(groupName, offset); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkFence(groupName, generation)
}

// checkOffset refuses names that are none and offsets beyond the visible end.
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

// CheckDrop returns the error that DropGroup would return before it tries.
func (p *Partition) CheckDrop(groupName string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkMembersLocked(groupName)
}

// checkMembersLocked refuses what cannot be done while a group has members.
func (p *Partition) checkMembersLocked(groupName string) error {
	if p.state.MayCommit(groupName, 0) == nil {
		return nil
	}
	return wire.Errorf(wire.CodeFenced, "group %q has members that read %s", groupName, p)
}

// DropGroup forgets a group or queue. It returns 0 when there is none, and refuses while it has
// members that read the partition.
func (p *Partition) DropGroup(groupName string, now time.Time) (index uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.knowsLocked(groupName) {
		return 0, nil
	}
	if err := p.checkMembersLocked(groupName); err != nil {
		return 0, err
	}
	return p.logLocked(group.AppendDrop(nil, groupName), now)
}

// Groups describes every group and queue of the partition. It does not wait for the disk: LagSeconds
// is 0 when the oldest message not yet done is only there.
func (p *Partition) Groups(now time.Time) []wire.GroupInfo { return p.describe(p.Read, now) }

// GroupsCold is Groups with every LagSeconds. It may wait for the disk, so it must not be called on an
// event loop.
func (p *Partition) GroupsCold(now time.Time) []wire.GroupInfo { return p.describe(p.ReadCold, now) }

// AppendTimeCold returns when the record at offset was appended, the zero time when it cannot be read.
// It may wait for the disk.
func (p *Partition) AppendTimeCold(offset uint64) time.Time { return appendTime(p.ReadCold, offset) }

// reader is Read or ReadCold.
type reader func(c *log.Chunk, offset uint64, maxBytes int) error

func appendTime(read reader, offset uint64) time.Time {
	var c log.Chunk
	defer c.Release()
	if read(&c, offset, 1) != nil || len(c.Slices) == 0 {
		return time.Time{}
	}
	e, _, err := wire.ViewEntry(c.Slices[0])
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(e.Time)
}

func (p *Partition) describe(read reader, now time.Time) []wire.GroupInfo {
	if p.log == nil {
		return nil
	}
	infos := p.groupInfos()
	for i := range infos {
		g := &infos[i]
		if g.Lag == 0 {
			continue
		}
		if at := appendTime(read, max(g.Offset, p.First())); !at.IsZero() {
			g.LagSeconds = max(0, now.Sub(at).Seconds())
		}
	}
	return infos
}

// groupInfos describes the groups without the ages of their messages: those are read without mu.
func (p *Partition) groupInfos() []wire.GroupInfo {
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	var infos []wire.GroupInfo
	for _, g := range p.state.Groups() {
		info := wire.GroupInfo{
			Group: g.Name, Mode: "group", Topic: p.topic.name, Partition: int(p.number), End: visible,
		}
		info.Offset = g.Offset
		info.Paused = p.state.Paused(g.Name)
		if g.Mode == group.ModeQueue {
			q := p.state.Queue(g.Name)
			s := q.Stats()
			info.Mode, info.Lag = "queue", q.Backlog(visible)
			info.InFlight, info.Retrying, info.Parked, info.Dead = s.InFlight, s.Redelivering, s.Parked, s.Dead
			policy := q.Policy()
			info.OrderByKey, info.DeadLetter = policy.OrderByKey, cmp.Or(policy.DeadLetter, DeadLetterTopic(p.topic.name, g.Name))
		} else {
			info.Lag = visible - min(visible, max(g.Offset, p.First()))
			c, _ := p.state.Committed(g.Name)
			info.CommittedAt = c.At
		}
		infos = append(infos, info)
	}
	return infos
}

// checkRoom refuses a group more than the partition may have. The caller holds mu.
func (p *Partition) checkRoom(name string, mode group.Mode) error {
	if err := p.state.Check(name, mode); err != nil {
		return wire.Errorf(wire.CodeLimit, "%s has no room for group %q: %v", p, name, err)
	}
	return nil
}

// truncated follows the log's start after retention or a purge moved it.
func (p *Partition) truncated() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lostUndelivered.Add(p.state.TruncatePrefix(p.First()))
}

func (p *Partition) checkGroup(name string) error {
	if err := p.Err(); err != nil {
		return err
	}
	return CheckGroup(name)
}

// CheckGroup returns a *wire.Error with CodeInvalid unless name may name a group: the rules of topic
// names.
func CheckGroup(name string) error {
	var refused *wire.Error
	if errors.As(CheckName(name), &refused) {
		return wire.Errorf(wire.CodeInvalid, "group name: %s", refused.Detail)
	}
	return nil
}
