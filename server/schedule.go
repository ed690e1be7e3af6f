package server

import (
	"slices"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// scheduleLater schedules batches. It is like a publish, to the schedule of the partition.
func (b *binary) scheduleLater(f wire.Frame, _ time.Time) error {
	own := &b.s.loop.scratch
	m := &own.schedule
	if err := m.Parse(f.Body, f.Flags); err != nil {
		return err
	}
	to, err := b.admit(m.Handle, m.Partition, f.Flags, len(f.Body))
	if err != nil {
		return err
	}
	items, err := own.scheduleItems(m, scheduleNow(to.p), to.config.MaxRecord)
	if err != nil {
		return err
	}
	for i := range items {
		if err := b.s.mayCarry(items[i].Batch); err != nil {
			return err
		}
	}
	if m.Producer.ID == partition.SchedulerID {
		return wire.Errorf(wire.CodeInvalid, "producer %x is the broker's scheduler", m.Producer.ID)
	}
	taken, err := to.p.Schedule(items, m.Producer)
	if err != nil {
		return err
	}
	switch {
	case to.quiet:
		b.s.loop.flush(taken.At, to.level)
	case to.level > wire.LevelMemory:
		b.held += len(f.Body)
		b.s.loop.awaitLevel(taken.At, ack{
			to: b, op: f.Op, correlation: f.Correlation, level: to.level, index: taken.Index, base: taken.First,
			held: len(f.Body), duplicate: taken.Duplicate,
		})
	default:
		b.replyScheduled(f.Correlation, taken.First, to.level, taken.Duplicate)
	}
	return nil
}

// scheduleItems checks the items of a request and returns them for Partition.Schedule. The result is valid until the next
// call.
func (own *scratch) scheduleItems(m *wire.Schedule, now int64, maxRecord int) ([]partition.ScheduleItem, error) {
	if len(m.Items) == 0 {
		return nil, wire.Errorf(wire.CodeInvalid, "nothing to schedule")
	}
	own.scheduled, own.batches = own.scheduled[:0], slices.Grow(own.batches[:0], len(m.Items))[:len(m.Items)]
	for i := range m.Items {
		if err := checkBatch(&own.batches[i], m.Items[i].Batch, maxRecord); err != nil {
			return nil, err
		}
	}
	for i := range m.Items {
		it := &m.Items[i]
		due, err := dueOf(it, now)
		if err != nil {
			return nil, err
		}
		own.scheduled = append(own.scheduled, partition.ScheduleItem{
			Due: due, Cron: string(it.Spec), Zone: string(it.Zone), Batch: &own.batches[i],
		})
	}
	return own.scheduled, nil
}

// scheduleNow returns the time from which delays count, in ms since 1970, rounded up so that nothing is early.
func scheduleNow(p *partition.Partition) int64 {
	return p.ScheduleTime().Add(time.Millisecond - 1).UnixMilli()
}

// dueOf returns when an item is due, in ms since 1970, or 0 for a recurring one. An item that is due in the past is
// published at once.
func dueOf(it *wire.ScheduleItem, now int64) (due int64, err error) {
	switch it.Kind {
	case wire.ScheduleDelay:
		due = now + it.Ms
	case wire.ScheduleAt:
		due = it.Ms
	case wire.ScheduleCron:
		if len(it.Spec) == 0 {
			return 0, wire.Errorf(wire.CodeInvalid, "a recurring message needs a cron expression")
		}
		return 0, nil
	default:
		return 0, wire.Errorf(wire.CodeInvalid, "unknown kind %d of schedule", it.Kind)
	}
	switch {
	case len(it.Spec) > 0 || len(it.Zone) > 0:
		return 0, wire.Errorf(wire.CodeInvalid, "a message is published once or by cron, not both")
	case it.Kind == wire.ScheduleDelay && (it.Ms < 0 || it.Ms > wire.MaxScheduleMs):
		return 0, wire.Errorf(wire.CodeInvalid, "a delay is 0 to 10 years, not %d ms", it.Ms)
	case due < 0 || due > now+wire.MaxScheduleMs:
		return 0, wire.Errorf(wire.CodeInvalid, "%s is more than 10 years ahead, or before 1970", time.UnixMilli(it.Ms).UTC().Format(time.RFC3339))
	}
	return due, nil
}

func (b *binary) replyScheduled(correlation uint32, first uint64, level wire.Level, duplicate bool) {
	flags := wire.Flags(level)
	if duplicate {
		flags |= wire.FlagDuplicate
	}
	b.replyTo(wire.OpSchedule, correlation, flags, wire.ScheduleReply{First: first}.Append)
}

// maxScheduleList bounds the batches in one reply, in bytes.
const maxScheduleList = 4 << 20

// listSchedules answers with the messages that will be published. It reads their batches on a worker.
func (b *binary) listSchedules(f wire.Frame, _ time.Time) error {
	var m wire.Schedules
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	op, correlation := f.Op, f.Correlation
	return b.work(op, correlation, func() (func(time.Time) error, error) {
		limit := min(max(1, int(m.Limit)), wire.MaxScheduleList)
		list, total, err := p.Scheduled(m.ID, m.AfterDue, m.AfterID, limit, maxScheduleList)
		if err != nil {
			return nil, err
		}
		reply := wire.ScheduleList{Total: uint64(total)}
		for _, s := range list {
			reply.Items = append(reply.Items, wire.ScheduleInfo{ID: s.ID, Due: s.Due, Spec: s.Cron, Zone: s.Zone, Batch: s.Batch})
		}
		return func(time.Time) error {
			b.replyTo(op, correlation, 0, reply.Append)
			return nil
		}, nil
	})
}

// cancelScheduled cancels scheduled messages, on a worker because finding them may take long.
func (b *binary) cancelScheduled(f wire.Frame, _ time.Time) error {
	var m wire.Cancel
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionPublish)
	if err != nil {
		return err
	}
	op, correlation := f.Op, f.Correlation
	return b.work(op, correlation, func() (func(time.Time) error, error) {
		missing, at, index, err := p.CancelScheduled(m.IDs)
		return func(time.Time) error {
			if at == nil {
				b.replySettled(op, correlation, uint32(missing))
				return nil
			}
			b.s.loop.awaitLevel(at, ack{
				to: b, op: op, correlation: correlation, level: min(p.Topic().Config().Level, p.StateLevel()),
				index: index, base: uint64(missing),
			})
			return nil
		}, err
	})
}

// fired sends a batch that the scheduler has published to live subscribers, on one of the loops.
func (srv *Server) fired(t *partition.Topic, batch *wire.Batch, late time.Duration) {
	srv.metrics.scheduled.observe(late, uint64(batch.Count()))
	if srv.live.Len() == 0 { // also true before there are loops
		return
	}
	l, raw := srv.loops[0].loop, batch.Raw()
	l.post(jobFunc(func(time.Time) { l.routeFired(t, raw) }))
}

// routeFired sends the records of a scheduled batch to the live subscriptions of their subjects.
func (l *loop) routeFired(t *partition.Topic, raw []byte) {
	batch, err := wire.ViewBatch(raw)
	if err == nil {
		batch, err = openLive(&batch)
	}
	if err != nil {
		return
	}
	for rec, err := range batch.Records() {
		if err != nil {
			return
		}
		subject := rec.Subject
		if len(subject) == 0 || l.srv.registry.Bound(subject) != t { // what its publisher may do with another is not known
			subject = []byte(t.Name())
		}
		m := l.nextRouted()
		m.Live = wire.Live{Subject: subject, Header: appendHeader(nil, &rec), Payload: rec.Value}
		l.route(m)
	}
}
