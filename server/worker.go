package server

import (
	"errors"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// maxWorking bounds one session's requests that are with the workers: twice as many as there are workers, so that it can keep
// them busy, and few of coldQueue, so that others find room there. More wait with the session.
const maxWorking = 2 * coldReaders

// errand is a request that needs a worker.
type errand struct {
	b           *binary
	op          wire.Op
	correlation uint32
	block       func() (then func(now time.Time) error, err error)
	kind        workKind
}

// workKind says what work for a worker does.
type workKind uint8

const (
	workChanges workKind = iota // somebody would miss it when the connection is gone
	workReads
	workCold // it reads the disk, and may return much: see maxCold
)

// work runs something that blocks on a worker and then what it returned on the session's loop. An
// error of either is the reply.
func (b *binary) work(op wire.Op, correlation uint32, block func() (then func(now time.Time) error, err error)) error {
	kind := workChanges
	if onlyReads(op) {
		kind = workReads
	}
	return (&errand{b, op, correlation, block, kind}).start()
}

// workCold is work for a request that reads the disk and may return much.
func (b *binary) workCold(op wire.Op, correlation uint32, block func() (then func(now time.Time) error, err error)) error {
	return (&errand{b, op, correlation, block, workCold}).start()
}

func (e *errand) start() error {
	b := e.b
	switch {
	case e.kind == workCold && !b.mayRead():
		return b.enlist(&b.reads, e)
	case !b.mayWork():
		return b.enlist(&b.errands, e)
	}
	return b.enqueue(e.kind, func() func(time.Time) {
		then, err := e.block()
		return func(now time.Time) {
			if b.s.closed {
				return
			}
			if err == nil {
				err = then(now)
			}
			if err != nil {
				b.fail(e.op, e.correlation, asWireError(err))
			}
		}
	})
}

// retry is called when the peer has read, or a worker has finished for the session.
func (e *errand) retry(time.Time) {
	if err := e.start(); err != nil {
		e.b.fail(e.op, e.correlation, asWireError(err))
	}
}

// mayWork reports whether another request of this session may go to the workers.
func (b *binary) mayWork() bool { return b.working < maxWorking }

// mayRead reports whether another read of the disk may. What the reads bring must not exceed Options.MaxPendingBytes,
// together with a reply from memory and what may be unread before that.
func (b *binary) mayRead() bool {
	fits := b.cold == 0 || (b.cold+2)*wire.MaxReplyBytes+softPending <= b.s.loop.srv.opts.MaxPendingBytes
	return fits && b.cold < maxCold && b.mayWork()
}

// mayPush is mayRead for a subscription. It waits, too, while the workers have no room, which is an error of a request.
func (b *binary) mayPush() bool {
	work := b.s.loop.srv.work
	return b.mayRead() && len(work) < cap(work)
}

// onlyReads reports whether nobody misses the work for a request when its connection is gone.
func onlyReads(op wire.Op) bool {
	switch op {
	case wire.OpFetch, wire.OpGet, wire.OpSubscribe, wire.OpLease, wire.OpOffsets, wire.OpGroups, wire.OpSchedules,
		wire.OpStats:
		return true
	}
	return false
}

// enqueue runs block on a worker, and then what it returned on the loop. Requests that wait for a worker come before that,
// so that a subscription which reads on does not hold them up.
func (b *binary) enqueue(kind workKind, block func() (then func(now time.Time))) error {
	cold := 0
	if kind == workCold {
		cold = 1
	}
	err := b.s.enqueue(kind != workChanges, func() {
		then := block()
		b.s.loop.post(jobFunc(func(now time.Time) {
			b.working--
			b.cold -= cold
			b.s.unblock(now)
			then(now)
		}))
	})
	if err == nil {
		b.working++
		b.cold += cold
	}
	return err
}

// maxCold bounds one session's reads of the disk that are under way, and with them its memory: what was read while the peer
// stopped reading is sent nevertheless.
const maxCold = 4

// coldRead is a read of the disk that waits for its turn.
type coldRead struct {
	b           *binary
	op          wire.Op
	correlation uint32
	read        func(c *log.Chunk) error
	send        func(c *log.Chunk, now time.Time)
}

// workChunk reads a chunk on a worker and sends it on the loop.
func (b *binary) workChunk(op wire.Op, correlation uint32, read func(c *log.Chunk) error, send func(c *log.Chunk, now time.Time)) error {
	return (&coldRead{b, op, correlation, read, send}).start()
}

func (r *coldRead) start() error {
	b := r.b
	if !b.mayRead() {
		return b.enlist(&b.reads, r)
	}
	return b.enqueue(workCold, func() func(time.Time) {
		var c log.Chunk
		err := r.read(&c)
		return func(now time.Time) {
			defer c.Release()
			switch {
			case b.s.closed:
			case errors.Is(err, partition.ErrMore):
				b.reads = append(b.reads, r) // behind what waits, so that it does not hold up other reads
				b.s.block()
				b.s.unblock(now)
			case err != nil:
				b.fail(r.op, r.correlation, asWireError(err))
			default:
				r.send(&c, now)
			}
		}
	})
}

// retry is called when the peer has read, another read of the session ended, or this one is not complete.
func (r *coldRead) retry(time.Time) {
	if err := r.start(); err != nil {
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

// enqueue hands work for a session to the workers. Work that only reads is skipped when the session is over by then. A panic
// of it closes the session, which would wait for its answer.
func (s *session) enqueue(reads bool, work func()) error {
	l := s.loop
	err := l.srv.enqueue(func() {
		if reads && s.over.Load() {
			return
		}
		if !reads {
			defer l.post(jobFunc(func(time.Time) { l.changing-- })) // behind the answer
		}
		defer s.containElsewhere()
		work()
	})
	if err == nil && !reads {
		l.changing++
	}
	return err
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
