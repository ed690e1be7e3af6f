package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

// A subject is live: a message reaches whoever listens at that moment, at most once, and is stored
// only when a topic is bound to the subject.

// ErrNoResponders is returned by Request when nobody listens to the subject and no topic is bound to
// it.
var ErrNoResponders = errors.New("client: no responders")

// maxUnsent is the output of a connection at which Send waits for the network. It and the output that is
// being written stay in the processor's cache: with 4 MiB messages of 1 KiB cost three times as much.
const maxUnsent = 256 << 10

// Send publishes a message to m.Subject: only its Key, Headers, Value and Reply are used. It returns when
// the message is queued for sending, and blocks while there is no connection or the network is too slow.
// Whether anybody receives the message is not known; a refusal, for lack of permission for example, is
// reported to Options.OnError. The message is copied before Send returns.
func (c *Client) Send(ctx context.Context, m *Message) error {
	_, _, err := c.send(ctx, m, 0, nil)
	return err
}

// send returns the connection that took the message, and the message's id there. refused, if not nil, is called when the
// broker refuses it, on the connection's goroutine; the caller then has the connection write the message.
func (c *Client) send(ctx context.Context, m *Message, flags wire.Flags, refused func(error)) (*conn, uint32, error) {
	if m.Subject == "" {
		return nil, 0, errors.New("client: a message to send needs a Subject")
	}
	if len(m.Subject) > wire.MaxSubjectBytes || len(m.Reply) > wire.MaxSubjectBytes {
		return nil, 0, fmt.Errorf("client: a subject of over %d bytes", wire.MaxSubjectBytes)
	}
	header, err := appendNATSHeader(nil, m)
	if err != nil {
		return nil, 0, err
	}
	if limit := wire.MaxFrameBytes / 2; len(header)+len(m.Value) > limit {
		return nil, 0, fmt.Errorf("client: a message of over %d bytes", limit)
	}
	for {
		cn, err := c.live(ctx)
		if err != nil {
			return nil, 0, err
		}
		if id, ok := cn.send(ctx, flags, m, header, refused); ok {
			return cn, id, nil
		}
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		select { // the connection is dead; the client will notice
		case <-cn.down:
		case <-ctx.Done():
		}
		c.forgotten(ctx, cn)
	}
}

// forgotten waits until cn is not the live connection any more.
func (c *Client) forgotten(ctx context.Context, cn *conn) {
	for {
		c.mu.Lock()
		current, changed := c.conn, c.changed
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

// send puts a message into the output, when there is room. ok is false when the connection or ctx ended
// first. A message whose refusal nobody waits for has the id 0, and is written without more ado.
func (cn *conn) send(ctx context.Context, flags wire.Flags, m *Message, header []byte, refused func(error)) (id uint32, ok bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.out.size() >= maxUnsent {
		cn.awaitRoomLocked(ctx)
	}
	if cn.err != nil || ctx.Err() != nil {
		return 0, false
	}
	if refused != nil {
		id = cn.nextIDLocked()
		cn.sends[id] = refused
	}
	first := cn.out.size() == 0
	cn.sent = true
	before := len(cn.out.own)
	out, at := wire.BeginFrame(cn.out.own, wire.OpSend, flags, id)
	cn.out.own = wire.EndFrame(wire.AppendLive(out, m.Subject, m.Reply, header, m.Value), at)
	cn.queued += uint64(len(cn.out.own) - before)
	if first && refused == nil { // if it is not the first, who put that in has it written
		cn.wakeWriter()
	}
	return id, true
}

// flushSent waits until the broker has taken what was sent on the live connection. What was sent on one
// that was lost is lost, as it always is.
func (c *Client) flushSent(ctx context.Context) error {
	cn := c.current()
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

// awaitRoomLocked waits until the output was taken to be written, or the connection or ctx ended.
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

// onSendRefused hands the refusal of a message to who sent it.
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
