package client

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// readLoop reads and dispatches frames until the connection ends.
func (cn *conn) readLoop() {
	defer cn.passOn()
	for {
		if cn.frames.waits() {
			cn.passOn()
			cn.lend()
		}
		var err error
		if cn.frame, err = cn.frames.next(); err != nil {
			cn.fail(fmt.Errorf("read: %w", err))
			return
		}
		err = cn.dispatch(&cn.frame)
		cn.frames.recycle(&cn.frame)
		if err != nil {
			cn.fail(err)
			return
		}
	}
}

// dispatch handles one frame. An error ends the connection.
func (cn *conn) dispatch(f *frame) error {
	if f.Op == wire.OpMessage {
		return cn.onMessage(f)
	}
	cn.passOn()
	switch f.Op {
	case wire.OpPublish | wire.OpReply, wire.OpSchedule | wire.OpReply:
		return cn.onPublished(f)
	case wire.OpDeliver:
		return cn.onDeliver(f)
	case wire.OpPing:
		body := append([]byte(nil), f.Body...)
		cn.tell(wire.OpPing|wire.OpReply, f.Correlation, func(dst []byte) []byte { return append(dst, body...) })
		return nil
	case wire.OpAssigned:
		cn.onAssigned(f)
		return nil
	case wire.OpSend | wire.OpReply:
		return cn.onSendRefused(f)
	case wire.OpNotice:
		return cn.onNotice(f)
	}
	if f.Op&wire.OpReply == 0 {
		return fmt.Errorf("%w: unexpected %s from the broker", ErrProtocol, f.Op)
	}
	return cn.onReply(f)
}

func (cn *conn) onReply(f *frame) error {
	var we *wire.Error
	if f.Flags&wire.FlagError != 0 {
		var err error
		if we, err = parseError(f); err != nil {
			return err
		}
	}
	r, ok := cn.takeRequest(f.Correlation, f.Op&^wire.OpReply)
	switch {
	case ok && we == nil:
		r.reply(f, nil)
	case ok:
		r.reply(nil, we)
	case we != nil: // it concerns the connection itself, such as CodeMalformed
		return fmt.Errorf("refused by the broker: %w", we)
	default:
		return fmt.Errorf("%w: a %s reply to no request", ErrProtocol, f.Op)
	}
	cn.closeIfDrained()
	return nil
}

// takeRequest removes the pending request with the correlation id and returns it. ok is false when
// there is none for op, or when the connection died before the writer was done with its memory.
func (cn *conn) takeRequest(id uint32, op wire.Op) (r request, ok bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	for {
		if r, ok = cn.pending[id]; !ok || r.op != op {
			return request{}, false
		}
		if r.batch == nil || !r.batch.lent || r.end <= cn.written.Load() {
			break
		}
		if cn.err != nil {
			return request{}, false
		}
		cn.room.Wait() // it was sent, but the writer has not noted that yet: its memory is still in use
	}
	delete(cn.pending, id)
	if !r.long {
		cn.settling--
	}
	if r.batch != nil {
		cn.unacked -= len(r.batch.bytes)
	}
	return r, true
}

// onPublished takes the answer to one batch, or to several that were sent one after the other.
func (cn *conn) onPublished(f *frame) error {
	if f.Flags&wire.FlagError != 0 {
		return cn.onPublishFailed(f)
	}
	a := answer{level: wire.Level(f.Flags & wire.FlagLevel), duplicate: f.Flags&wire.FlagDuplicate != 0}
	op, extra := f.Op&^wire.OpReply, uint32(0)
	var err error
	if op == wire.OpSchedule {
		var r wire.ScheduleReply
		err = r.Parse(f.Body)
		a.base = r.First
	} else {
		var r wire.PublishReply
		err = r.Parse(f.Body, f.Flags)
		a.base, extra = r.Base, r.Extra
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	id := f.Correlation
	for range uint64(extra) + 1 {
		r, ok := cn.takeRequest(id, op)
		if !ok {
			return fmt.Errorf("%w: an acknowledgement of no %s", ErrProtocol, op)
		}
		n := uint64(r.batch.count())
		r.batch.lane.answered(r.batch, a)
		a.base += n
		id++
	}
	cn.afterPublished()
	return nil
}

func (cn *conn) onPublishFailed(f *frame) error {
	we, err := parseError(f)
	if err != nil {
		return err
	}
	op := f.Op &^ wire.OpReply
	r, ok := cn.takeRequest(f.Correlation, op)
	if !ok { // a publish at wire.LevelNone, which is done already
		cn.c.report(explain(we, op, "", anyPartition))
		if stale(we) && time.Since(cn.refreshed) > time.Second {
			cn.refreshed = time.Now() // refresh all topics: the answer does not name one
			cn.c.producer.refresh(cn)
		}
		return nil
	}
	r.batch.lane.answered(r.batch, answer{err: we})
	cn.afterPublished()
	return nil
}

// afterPublished wakes lanes that waited for room on the connection.
func (cn *conn) afterPublished() {
	cn.mu.Lock()
	starved := cn.starved
	cn.starved = nil
	cn.mu.Unlock()
	for _, l := range starved {
		l.kick()
	}
	cn.closeIfDrained()
}

func (cn *conn) closeIfDrained() {
	cn.mu.Lock()
	done := cn.draining && cn.settling == 0
	cn.mu.Unlock()
	if done {
		cn.fail(errDrained)
	}
}

func (cn *conn) onDeliver(f *frame) error {
	cn.mu.Lock()
	s := cn.subs[f.Correlation]
	if s != nil && f.Flags&wire.FlagError != 0 {
		delete(cn.subs, f.Correlation)
	}
	cn.mu.Unlock()
	if s == nil { // unsubscribed a moment ago
		return nil
	}
	if f.Flags&wire.FlagError == 0 {
		return s.onEntries(cn, f)
	}
	we, err := parseError(f)
	if err != nil {
		return err
	}
	s.onEnd(cn, we)
	return nil
}

func (cn *conn) onAssigned(f *frame) {
	cn.mu.Lock()
	m := cn.members[f.Correlation]
	cn.mu.Unlock()
	if m != nil {
		m.assign(cn, f)
	}
}

func (cn *conn) onNotice(f *frame) error {
	var n wire.Notice
	if err := n.Parse(f.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	cn.c.opts.Logger.Warn("broker notice", "node", cn.server.Addr, "code", n.Code.String(), "detail", n.Detail)
	if n.Code == wire.CodeShutdown {
		cn.c.flushAcks()
		cn.drain()
	}
	return nil
}

// abandon ends every request of a dead connection, in the order in which they were sent.
func (cn *conn) abandon() {
	cn.mu.Lock()
	for cn.writing { // a push is in progress: how far it gets decides what may be sent again
		cn.room.Wait()
	}
	left := make([]request, 0, len(cn.pending)+len(cn.fired))
	for _, r := range cn.pending {
		left = append(left, r)
	}
	for _, f := range cn.fired {
		left = append(left, request{op: wire.OpPublish, end: f.end, batch: f.batch})
	}
	subs := cn.subs
	cn.pending, cn.fired, cn.starved, cn.subs = nil, nil, nil, nil
	cn.listens, cn.listening, cn.sends, cn.members = nil, nil, nil, nil
	reason := cn.err
	cn.mu.Unlock()

	slices.SortFunc(left, func(a, b request) int { return cmp.Compare(a.end, b.end) })
	written := cn.written.Load()
	for _, r := range left {
		err := &lostError{reason: reason, sent: r.end <= written}
		if r.batch != nil {
			r.batch.lane.answered(r.batch, answer{err: err})
			continue
		}
		r.reply(nil, err)
	}
	for _, s := range subs {
		s.onLost(cn)
	}
	cn.c.inbox.lost(cn)
}

func parseError(f *frame) (*wire.Error, error) {
	we := new(wire.Error)
	if err := we.Parse(f.Body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return we, nil
}
