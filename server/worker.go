package server

import (
	"errors"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// work runs something that blocks on a worker and then what it returned on the session's loop. An
// error of either is the reply.
func (b *binary) work(op wire.Op, correlation uint32, block func() (then func(now time.Time) error, err error)) error {
	l := b.s.loop
	return b.s.enqueue(func() {
		then, err := block()
		l.post(jobFunc(func(now time.Time) {
			if b.s.closed {
				return
			}
			if err == nil {
				err = then(now)
			}
			if err != nil {
				b.fail(op, correlation, asWireError(err))
			}
		}))
	})
}

// maxCold bounds one session's reads of the disk that are under way, and with them its memory.
const maxCold = 4

// coldRead is a read of the disk that waits for its turn.
type coldRead struct {
	b           *binary
	op          wire.Op
	correlation uint32
	read        func(c *log.Chunk) error
	send        func(c *log.Chunk, now time.Time)
}

// workChunk reads a chunk on a worker and sends it on the loop. What was read while the peer stopped
// reading is sent nevertheless: maxCold bounds it.
func (b *binary) workChunk(op wire.Op, correlation uint32, read func(c *log.Chunk) error, send func(c *log.Chunk, now time.Time)) error {
	r := &coldRead{b, op, correlation, read, send}
	if b.cold >= maxCold {
		return b.later(r)
	}
	return r.start()
}

func (r *coldRead) start() error {
	b := r.b
	b.cold++
	err := b.s.enqueue(func() {
		var c log.Chunk
		err := r.read(&c)
		b.s.loop.post(jobFunc(func(now time.Time) {
			b.cold--
			defer c.Release()
			switch {
			case b.s.closed:
			case errors.Is(err, partition.ErrMore): // behind what waits, so that it does not hold up other reads
				r.retry(now)
			case err != nil:
				b.fail(r.op, r.correlation, asWireError(err))
			default:
				r.send(&c, now)
			}
			b.s.unblock(now)
		}))
	})
	if err != nil {
		b.cold--
	}
	return err
}

// retry is called when the peer has read, another read of the session ended, or this one is not complete.
func (r *coldRead) retry(time.Time) {
	err := error(nil)
	if r.b.cold >= maxCold {
		err = r.b.later(r)
	} else {
		err = r.start()
	}
	if err != nil {
		r.b.fail(r.op, r.correlation, asWireError(err))
	}
}

// enqueue hands work to the workers. It does not block: a full queue is CodeBusy.
func (srv *Server) enqueue(work func()) error {
	select {
	case srv.work <- work:
		return nil
	default:
		return wire.Errorf(wire.CodeBusy, "%d requests wait for the disk", coldQueue)
	}
}

// enqueue hands work for a session to the workers. A panic of it closes the session, which would wait for its answer.
func (s *session) enqueue(work func()) error {
	return s.loop.srv.enqueue(func() {
		defer func() {
			if r := recover(); r != nil {
				s.loop.srv.panicked(r)
				s.loop.post(jobFunc(func(time.Time) { s.close() }))
			}
		}()
		work()
	})
}

// runWorker runs work until the server stops.
func (srv *Server) runWorker() {
	for work := range srv.work {
		srv.runWork(work)
	}
}

func (srv *Server) runWork(work func()) {
	defer func() {
		if r := recover(); r != nil {
			srv.panicked(r)
		}
	}()
	work()
}
