package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

// A message to a subject reaches whoever listens at that moment, at most once. It is stored only when
// a topic is bound to the subject.

// ErrNoResponders is returned by Request when nobody listens to the subject and no topic is bound
// to it.
var ErrNoResponders = errors.New("client: no responders")

// maxUnsent is how much unsent output makes Send wait for the network. So much, and as much that is
// being written, stay in the processor's cache: with 4 MiB a message of 1 KiB cost three times as
// much.
const maxUnsent = 256 << 10

// sendHead is about the size of a message to a subject without its content.
const sendHead = wire.HeaderBytes + 16

// Send publishes a message to m.Subject. Only its Key, Headers, Value and Reply are used. Send
// copies the message and returns when it is queued for sending; it blocks while there is no
// connection or the network is too slow. It does not tell whether anybody receives the message, and
// one that is queued when the connection is lost may be lost with it. A refusal by the broker, for
// example for lack of permission, is reported to Options.OnError.
func (c *Client) Send(ctx context.Context, m *Message) error {
	_, _, err := c.send(ctx, m, 0, nil)
	return err
}

// send queues m and returns the connection that took it, and the message's correlation id there. If
// refused is not nil, it is called on the connection's reader when the broker refuses the message,
// and the caller must have the connection write the message.
func (c *Client) send(ctx context.Context, m *Message, flags wire.Flags, refused func(error)) (*conn, uint32, error) {
	if m.Subject == "" {
		return nil, 0, errors.New("client: the message has no Subject to send it to")
	}
	if len(m.Subject) > wire.MaxSubjectBytes || len(m.Reply) > wire.MaxSubjectBytes {
		return nil, 0, fmt.Errorf("client: the Subject or Reply has more than %d bytes", wire.MaxSubjectBytes)
	}
	header, err := appendNATSHeader(nil, m)
	if err != nil {
		return nil, 0, err
	}
	if limit := wire.MaxFrameBytes / 2; len(header)+len(m.Value) > limit {
		return nil, 0, fmt.Errorf("client: the message has more than %d bytes", limit)
	}
	for {
		cn, err := c.live(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("send %s: %w", m.Subject, err)
		}
		if id, ok := cn.send(ctx, flags, m, header, refused); ok {
			return cn, id, nil
		}
		if c.producer.closing.Load() {
			return nil, 0, ErrClosed
		}
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("send %s: %w", m.Subject, context.Cause(ctx))
		}
		c.awaitReplaced(ctx, cn) // it is dead
	}
}

// awaitReplaced waits until cn is no longer the live connection, or ctx ends.
func (c *Client) awaitReplaced(ctx context.Context, cn *conn) {
	for {
		c.mu.Lock()
		current, changed := c.conn.Load(), c.changed
		c.mu.Unlock()
		if current != cn {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// send queues a message, once there is room. ok is false when the connection or ctx ended first, or
// Close has begun to wait for what was sent before. A message without a refused callback has the id 0,
// and the writer is told to write it.
func (cn *conn) send(ctx context.Context, flags wire.Flags, m *Message, header []byte, refused func(error)) (id uint32, ok bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.out.size() >= maxUnsent {
		cn.awaitRoomLocked(ctx)
	}
	if cn.err != nil || ctx.Err() != nil || cn.c.producer.closing.Load() {
		return 0, false
	}
	if refused != nil {
		id = cn.nextIDLocked()
		cn.sends[id] = refused
	}
	first := cn.out.size() == 0
	cn.sent = true
	cn.out.room(sendHead + len(m.Subject) + len(m.Reply) + len(header) + len(m.Value))
	before := len(cn.out.own)
	out, at := wire.BeginFrame(cn.out.own, wire.OpSend, flags, id)
	cn.out.own = wire.EndFrame(wire.AppendLive(out, m.Subject, m.Reply, header, m.Value), at)
	cn.queued += uint64(len(cn.out.own) - before)
	if first && refused == nil { // otherwise the first message has woken the writer
		cn.wakeWriter()
	}
	return id, true
}

// flushSent waits until the broker has received what was sent on the live connection. What was sent
// on an earlier connection may be lost, as with every Send.
func (c *Client) flushSent(ctx context.Context) error {
	cn := c.conn.Load()
	if cn == nil {
		return nil
	}
	cn.mu.Lock()
	sent := cn.sent
	cn.mu.Unlock()
	if !sent {
		return nil
	}
	_, err := cn.do(ctx, wire.OpPing, 0, func(dst []byte) []byte { return dst })
	return err
}

// awaitRoomLocked waits until the writer has taken the output, or the connection or ctx has ended.
func (cn *conn) awaitRoomLocked(ctx context.Context) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			cn.mu.Lock()
			defer cn.mu.Unlock()
			cn.room.Broadcast()
		})
		defer stop()
	}
	for cn.out.size() >= maxUnsent && cn.err == nil && ctx.Err() == nil {
		cn.room.Wait()
	}
}

// onSendRefused passes the refusal of a message to its sender.
func (cn *conn) onSendRefused(f *frame) error {
	we, err := parseError(f)
	if err != nil {
		return err
	}
	cn.mu.Lock()
	refused := cn.sends[f.Correlation]
	delete(cn.sends, f.Correlation)
	cn.mu.Unlock()
	if refused == nil {
		cn.c.report(explain(we, wire.OpSend, "", anyPartition))
		return nil
	}
	refused(explain(we, wire.OpSend, "", anyPartition))
	return nil
}
