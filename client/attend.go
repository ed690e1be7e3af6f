package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// A caller that waits for the only answer in progress reads the answer itself. To get it from the reader
// would cost two switches of goroutines, and often the wake-up of a processor. For this the reader lends
// its turn: as long as callers come one after the other, nobody reads between their calls. The reader
// takes its turn back when something is waited for that no caller reads, and when no caller came for a
// while.
//
// A caller handles nothing but its own answer. Whatever else arrives stays in the buffer for the reader,
// so a user's callback never runs within the call of another user.

const (
	// soloCalls is how many requests in a row must have been the only one in progress before the
	// reader lends its turn. Callers that wait at the same time would have to wake the reader for
	// each other.
	soloCalls = 4
	// lendTime is how often the reader looks whether callers still come. When none came since its
	// last look, it takes its turn back: the broker may send something by itself, or close the
	// connection.
	lendTime = 20 * time.Millisecond
)

// turn says who may read from the connection. conn.mu guards it.
type turn struct {
	taken bool   // the reader or a caller has the turn
	solo  int    // requests in a row that were the only one in progress
	lent  uint64 // how often a caller had the turn
}

// attend reads the answer to the caller's request, unless somebody else reads. When it returns, the
// answer was dispatched, or the reader will dispatch it, or ctx has ended.
func (cn *conn) attend(ctx context.Context, id uint32) {
	if !cn.borrow(id) {
		return
	}
	undo := cn.interruptWith(ctx)
	err := cn.readOwn(id)
	if interrupted := undo(); err != nil && (!interrupted || !errors.Is(err, os.ErrDeadlineExceeded)) {
		cn.fail(err)
	}
	cn.giveBack()
}

// borrow takes the turn for a caller that waits for the answer to request id.
func (cn *conn) borrow(id uint32) bool {
	if cn.direct == nil {
		return false // only a plain socket's reads can be interrupted and go on
	}
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if _, waits := cn.pending[id]; !waits || cn.err != nil {
		return false
	}
	if len(cn.pending) == 1 {
		cn.turn.solo++
	} else {
		cn.turn.solo = 0
	}
	if cn.turn.taken || cn.frames.buffered() > 0 { // what is buffered is for the reader, which was recalled
		return false
	}
	cn.turn.taken = true
	cn.turn.lent++
	return true
}

// interruptWith makes reads fail when ctx ends. undo stops that, and reports whether ctx had ended.
func (cn *conn) interruptWith(ctx context.Context) (undo func() bool) {
	if ctx.Done() == nil {
		return func() bool { return false }
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = cn.nc.SetReadDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() bool {
		if stop() {
			return false
		}
		<-done
		_ = cn.nc.SetReadDeadline(time.Time{})
		return true
	}
}

// readOwn reads until the answer to request id was dispatched, or something else has arrived.
func (cn *conn) readOwn(id uint32) error {
	for {
		h, ok := cn.frames.head()
		switch {
		case !ok:
			if err := cn.frames.fill(); err != nil {
				return fmt.Errorf("read: %w", err)
			}
		case !cn.isOwn(h, id):
			return nil
		default:
			var err error
			if cn.frame, err = cn.frames.next(); err != nil {
				return fmt.Errorf("read: %w", err)
			}
			err = cn.dispatch(&cn.frame)
			cn.frames.recycle(&cn.frame)
			return err
		}
	}
}

// isOwn reports whether a frame is the answer to request id, and to no other request.
func (cn *conn) isOwn(h wire.Frame, id uint32) bool {
	cn.mu.Lock()
	r, ok := cn.pending[id]
	cn.mu.Unlock()
	switch {
	case !ok || h.Correlation != id || h.Op != r.op|wire.OpReply:
		return false
	case r.batch == nil:
		return true
	}
	return h.Flags&(wire.FlagError|wire.FlagRange) == 0 && r.batch.lane.isAlone(r.batch)
}

// isAlone reports whether b is the only batch in flight: its answer concerns no other.
func (l *lane) isAlone(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flight) == 1 && l.flight[0] == b
}

// giveBack ends the caller's turn. If there is something to read for the reader, it recalls it.
func (cn *conn) giveBack() {
	cn.mu.Lock()
	cn.turn.taken = false
	needed := cn.err != nil || cn.frames.buffered() > 0 || !cn.isQuietLocked()
	cn.mu.Unlock()
	if needed {
		cn.recallReader()
	}
}

// isQuietLocked reports whether nothing is expected from the broker.
func (cn *conn) isQuietLocked() bool {
	return len(cn.pending) == 0 && len(cn.subs) == 0 && len(cn.listens) == 0 && len(cn.members) == 0
}

// recallReader makes the reader take its turn back.
func (cn *conn) recallReader() {
	signal(cn.recall)
}

// lend leaves reading to callers if they come one by one, and returns when it is the reader's turn
// again. The reader calls it before it waits for more.
func (cn *conn) lend() {
	cn.mu.Lock()
	lent := cn.turn.solo >= soloCalls && cn.err == nil && cn.frames.buffered() == 0 && cn.isQuietLocked()
	seen := cn.turn.lent
	cn.turn.taken = !lent
	cn.mu.Unlock()
	if !lent {
		return
	}
	idle, down := time.NewTicker(lendTime), cn.down
	defer idle.Stop()
	for back := false; !back; {
		select {
		case <-cn.recall:
			back = cn.takeBack(nil)
		case <-down:
			down = nil // if a caller has the turn, it will recall the reader
			back = cn.takeBack(nil)
		case <-idle.C:
			back = cn.takeBack(&seen)
		}
	}
}

// takeBack takes the turn for the reader, unless a caller has it. If seen is not nil, it also
// requires that no caller had it since lent was *seen.
func (cn *conn) takeBack(seen *uint64) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.turn.taken {
		return false
	}
	if seen != nil && *seen != cn.turn.lent {
		*seen = cn.turn.lent
		return false
	}
	cn.turn.taken, cn.turn.solo = true, 0
	return true
}
