package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Somebody who waits for the only answer that is under way reads it himself: passing it on from the reader
// costs two switches of goroutines, and often waking a processor. The reader then lends its turn: for as
// long as callers come one after the other, nobody reads between their calls. It takes the turn back when
// anybody waits who does not read, and when no caller came for a while.
//
// A caller runs nothing but its own answer. What else arrives stays where it is, for the reader: callbacks
// of users never run within the call of another.

const (
	// soloCalls is how many requests in a row have nobody beside them before the reader lends its turn:
	// callers who wait at the same time would have to wake it for each other.
	soloCalls = 4
	// lendTime is after how long without a caller the reader takes its turn back, at the second look: the
	// broker may say something by itself, or go away.
	lendTime = 20 * time.Millisecond
)

// turn is whose turn it is to read. conn.mu guards it.
type turn struct {
	taken bool   // somebody reads
	solo  int    // requests in a row that had nobody beside them
	lent  uint64 // counts the callers who read
}

// attend reads the answer to a request of the caller, who waits for it, unless somebody reads already. When
// it returns, the answer was dispatched, or the reader sees to it, or ctx has ended.
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

// borrow takes the turn for who waits for the answer to a request.
func (cn *conn) borrow(id uint32) bool {
	if cn.direct == nil {
		return false // reads of what is no plain socket cannot be interrupted
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
	if cn.turn.taken || cn.frames.buffered() > 0 { // what was read and left is for the reader, who is on its way
		return false
	}
	cn.turn.taken = true
	cn.turn.lent++
	return true
}

// interruptWith makes reads fail when ctx ends, until undo is called, which reports whether it did.
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

// readOwn reads until the answer to a request was dispatched, or something else has arrived.
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

// isOwn reports whether a frame is the answer to a request and nothing beside it.
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

// isAlone reports whether a batch is the only one in flight: its answer is about no other.
func (l *lane) isAlone(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flight) == 1 && l.flight[0] == b
}

// giveBack ends the caller's turn. It is nobody's unless the reader is needed.
func (cn *conn) giveBack() {
	cn.mu.Lock()
	cn.turn.taken = false
	needed := cn.err != nil || cn.frames.buffered() > 0 || !cn.isQuietLocked()
	cn.mu.Unlock()
	if needed {
		cn.recallReader()
	}
}

// isQuietLocked reports whether nobody waits for anything.
func (cn *conn) isQuietLocked() bool {
	return len(cn.pending) == 0 && len(cn.subs) == 0 && len(cn.listens) == 0 && len(cn.members) == 0
}

// recallReader has the reader take its turn back.
func (cn *conn) recallReader() {
	select {
	case cn.recall <- struct{}{}:
	default:
	}
}

// lend leaves reading to callers if they come one by one, and returns when it is the reader's turn again.
// The reader calls it before it waits for more.
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
			down = nil // a caller who reads recalls the reader
			back = cn.takeBack(nil)
		case <-idle.C:
			back = cn.takeBack(&seen)
		}
	}
}

// takeBack takes the turn for the reader unless a caller has it. With seen it does so only when no caller
// had it since.
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
