package client

import (
	"context"
	"errors"
	"sync"
)

// GroupConsumer is one member of a group, for programs that fetch messages themselves; Run is
// simpler. The messages that Fetch returned count as done when Fetch or Commit is called next, and
// are committed within Source.CommitInterval of that.
//
// A GroupConsumer is safe for concurrent use. However, only one goroutine at a time should call
// Fetch, because every call marks the messages of the previous one as done.
type GroupConsumer struct {
	r      *groupRun
	cancel context.CancelFunc
	left   chan struct{} // closed when the member has left the group

	mu     sync.Mutex // guards the fields below; not held while Fetch or Commit waits
	hand   *task      // the task whose messages the last Fetch returned, or nil
	next   uint64     // the offset after the last of those messages
	memory []byte     // holds the bytes of returned messages; its rest is for the next ones
}

// OpenGroup joins a group as a member. It returns when the broker has taken the member, or when ctx ends. It ignores
// the source's Workers, Middleware, MaxDeliveries, DeadLetter and backoff, which only Run uses. Close
// the consumer when done; until then it keeps its partitions, whether Fetch is called or not.
func (c *Client) OpenGroup(ctx context.Context, s Source) (*GroupConsumer, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.queue {
		return nil, errors.New("client: OpenGroup needs a group; use OpenQueue for a queue")
	}
	if !c.beginRun() {
		return nil, ErrClosed
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cr, dismiss := c.gather(life)
	r, err := c.joinGroup(ctx, cr, s)
	if err != nil {
		dismiss()
		cancel()
		c.runs.Done()
		return nil, err
	}
	g := &GroupConsumer{r: r, cancel: cancel, left: make(chan struct{})}
	go func() {
		defer c.runs.Done()
		defer close(g.left)
		defer cancel()
		defer dismiss()
		_ = r.run(life, g.wait) // reason returns it
	}()
	if err := g.enter(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// enter waits until the broker has taken the member. After an error the member has ended, or is about to.
func (g *GroupConsumer) enter(ctx context.Context) error {
	ctx, cancel := g.r.c.bounded(ctx)
	defer cancel()
	select {
	case <-g.r.member.entered:
		return nil
	case <-g.r.quit:
		return g.reason()
	case <-ctx.Done():
		g.cancel()
		return context.Cause(ctx)
	}
}

// wait is the worker of the run. It returns when the run has stopped and no Fetch is reading.
func (g *GroupConsumer) wait() {
	<-g.r.quit
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hand = nil // these messages are not done and are delivered again
}

// Fetch returns up to limit messages of one partition, but at least one, in order. It waits for the first. The
// partitions take turns. The caller may keep the messages.
//
// When the partition is to move to another member, it does so once these messages are done, or
// after Source.HandoverTimeout. The error is the context's, ErrClosed, or the reason why the broker
// will send no more messages.
func (g *GroupConsumer) Fetch(ctx context.Context, limit int) ([]*Message, error) {
	g.settle()
	stop := context.AfterFunc(ctx, g.r.wake)
	defer stop()
	for ctx.Err() == nil { // a busy partition always has one more message
		t := g.r.takeUntil(ctx)
		if t == nil {
			break
		}
		if ms := g.read(t, max(1, limit)); len(ms) > 0 {
			return ms, nil
		}
		g.r.giveBack(t)
	}
	if !g.r.isStopped() {
		return nil, context.Cause(ctx)
	}
	return nil, g.reason()
}

// reason returns why the run stopped.
func (g *GroupConsumer) reason() error {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	if err := g.r.err; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return ErrClosed
}

// settleLocked marks what the last Fetch returned as done.
func (g *GroupConsumer) settleLocked() {
	if t := g.hand; t != nil {
		t.done.Store(g.next)
		g.hand = nil
		g.r.giveBack(t)
	}
}

// settle is settleLocked.
func (g *GroupConsumer) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked()
}

// read takes messages of the open delivery in hand. It returns none when the run has stopped: the task may belong to
// its end then.
func (g *GroupConsumer) read(t *task, limit int) []*Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.r.isStopped() {
		return nil
	}
	ms := g.readLocked(t, limit)
	if len(ms) > 0 {
		g.settleLocked() // what another Fetch has returned meanwhile
		g.hand, g.next = t, ms[len(ms)-1].Offset+1
	}
	return ms
}

// readLocked copies messages of the open delivery. It returns none at the end of the delivery, and
// when the partition is to move to another member.
func (g *GroupConsumer) readLocked(t *task, limit int) []*Message {
	r := g.r
	if !r.openTask(t) {
		return nil
	}
	var ms []*Message
	for len(ms) < limit && !t.halting.Load() && !r.isStopped() {
		ok, err := t.walk.more()
		if undecodable(err) {
			r.c.report(r.explain(t, err))
			continue
		}
		if err != nil {
			r.stop(r.explain(t, err))
			return nil
		}
		if !ok && len(ms) == 0 {
			r.finish(t)
		}
		if !ok {
			return ms
		}
		t.walk.take(&t.msg)
		ms = append(ms, g.copyLocked(&t.msg))
	}
	return ms
}

// messageMemory is the size of the blocks that fetched messages share. Keeping one message keeps
// its block.
const messageMemory = 64 << 10

// copyLocked returns a copy of m, with its key and value in a shared block.
func (g *GroupConsumer) copyLocked(m *Message) *Message {
	n := len(m.Key) + len(m.Value)
	if cap(g.memory)-len(g.memory) < n {
		g.memory = make([]byte, 0, max(n, messageMemory))
	}
	c := *m
	c.Attempt = 1
	c.Key, c.Value = g.keepLocked(m.Key), g.keepLocked(m.Value)
	c.Headers = cloneHeaders(m.Headers)
	return &c
}

func (g *GroupConsumer) keepLocked(b []byte) []byte {
	if b == nil {
		return nil
	}
	at := len(g.memory)
	g.memory = append(g.memory, b...)
	return g.memory[at:len(g.memory):len(g.memory)]
}

// Commit marks the messages that the last Fetch returned as done, and commits everything that is
// done. The error is ErrPartitionLost when messages that were done since the last Commit could not be
// committed and are delivered again: their partition has moved to another member, SeekGroup has moved
// the group, or the broker has restarted. Everything else that is done is committed all the same.
// After ErrClosed, too, what was not committed is delivered again. After wire.CodeTopicDeleted its topic
// is gone, and there may be another one of that name. After any other error it is committed later.
func (g *GroupConsumer) Commit(ctx context.Context) error {
	g.mu.Lock()
	if g.r.isStopped() {
		g.mu.Unlock()
		return g.reason()
	}
	tasks := g.r.all() // before one of them is given back and may end
	g.settleLocked()
	g.mu.Unlock() // the end of the run commits what is done, too
	return errors.Join(g.r.store(ctx, tasks), g.r.takeForfeit(ctx))
}

// Close commits what is done and leaves the group. The messages that the last Fetch returned are
// not done, and are delivered again, unless Commit was called before. Close returns the context's
// error when ctx ends first. That the commit fails is reported to Options.OnError only; Commit returns it.
func (g *GroupConsumer) Close(ctx context.Context) error {
	g.cancel()
	select {
	case <-g.left:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
