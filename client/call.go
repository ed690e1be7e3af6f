package client

import (
	"context"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

// call is one request, which is tried until it is answered.
type call struct {
	op    wire.Op
	flags wire.Flags
	topic string // named in errors; the request uses its handle unless named is set
	// id is that of the topic which the request is about, in case there is another one of its name by
	// then; zero means whichever there is.
	id [16]byte
	// broker is the id of the only broker that may answer; zero means any.
	broker [16]byte
	// named means that the request uses no handle: its body names the topic, or it concerns none.
	named bool
	// body appends the request's body. b is nil when named is set.
	body func(dst []byte, b *binding) []byte
	// once means that the request must not be sent again when it may have been carried out.
	once bool
	// partition is the one to name in errors, or anyPartition.
	partition int
}

// exchange sends the request and returns the answer, which belongs to the caller. It waits for a
// connection, and tries again after a lost connection or when the broker asks for it.
func (c *Client) exchange(ctx context.Context, r call) (*buffer, error) {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	pause := newPauser()
	renewed := false
	for {
		cn, err := c.live(bounded)
		if err != nil { // nothing is on its way
			return nil, r.explain(err)
		}
		buf, b, err := cn.try(bounded, r)
		switch sent, cut := lost(err); {
		case err == nil:
			return buf, nil
		case cut && sent && r.once:
			return nil, &unknownError{r.explain(err)}
		case err == context.Cause(bounded) && r.once: //nolint:errorlint // the context ended here, not inside a lost connection
			return nil, &unknownError{r.explain(err)}
		case cut:
		case b != nil && !renewed && stale(err):
			b.conn.forget(b, r.topic)
			renewed = true
			continue
		case !retryLater(err) || wire.CodeOf(err) == wire.CodeStorageFull:
			return nil, r.explain(err)
		}
		if waitErr := pause.wait(bounded); waitErr != nil {
			return nil, fmt.Errorf("%w (%w)", r.explain(err), waitErr)
		}
	}
}

// request is exchange that parses the answer, unless parse is nil. parse may keep the body.
func (c *Client) request(ctx context.Context, r call, parse func(body []byte) error) error {
	buf, err := c.exchange(ctx, r)
	if err != nil || parse == nil {
		return err
	}
	if err := parse(buf.body); err != nil {
		return r.explain(fmt.Errorf("%w: %w", ErrProtocol, err))
	}
	return nil
}

// stale reports whether err may mean that a handle belongs to an earlier topic of the same name.
func stale(err error) bool {
	code := wire.CodeOf(err)
	return code == wire.CodeTopicNotFound || code == wire.CodeTopicDeleted
}

func (r *call) explain(err error) error {
	return explain(err, r.op, r.topic, r.partition)
}

// try is one attempt. It returns the binding that it used.
func (cn *conn) try(ctx context.Context, r call) (buf *buffer, b *binding, err error) {
	if r.broker != ([16]byte{}) && r.broker != cn.hello.ServerID {
		return nil, nil, errOtherBroker
	}
	if !r.named {
		if b, err = cn.resolve(ctx, r.topic, false); err != nil {
			return nil, nil, err
		}
		if r.id != ([16]byte{}) && r.id != b.ID {
			return nil, b, errOtherTopic
		}
	}
	buf, err = cn.do(ctx, r.op, r.flags, func(dst []byte) []byte {
		if r.body == nil {
			return dst
		}
		return r.body(dst, b)
	})
	return buf, b, err
}

// errOtherBroker refuses what concerned a broker that was restarted, or is another one.
var errOtherBroker error = wire.Errorf(wire.CodeFenced, "the broker was restarted since")

// resolve returns the topic's binding on this connection.
func (cn *conn) resolve(ctx context.Context, topic string, create bool) (*binding, error) {
	if b := cn.bound(topic); b != nil {
		return b, nil
	}
	type result struct {
		b   *binding
		err error
	}
	done := make(chan result, 1)
	cn.resolveLater(topic, create, func(b *binding, err error) { done <- result{b, err} })
	select {
	case r := <-done:
		return r.b, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// resolveLater is resolve without waiting. done runs on the connection's reader, or at once.
func (cn *conn) resolveLater(topic string, create bool, done func(*binding, error)) {
	if b := cn.bound(topic); b != nil {
		done(b, nil)
		return
	}
	var flags wire.Flags
	if create {
		flags = wire.FlagCreate
	}
	cn.ask(wire.OpResolve, flags, (&wire.Resolve{Topic: topic}).Append, func(f *frame, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(cn.bind(topic, f.Body))
	})
}

func (cn *conn) bound(topic string) *binding {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.topics[topic]
}

func (cn *conn) bind(topic string, body []byte) (*binding, error) {
	b := &binding{conn: cn}
	if err := b.Parse(body); err != nil || b.Partitions == 0 {
		return nil, fmt.Errorf("%w: bad answer to a resolve", ErrProtocol)
	}
	cn.mu.Lock()
	cn.topics[topic] = b
	cn.mu.Unlock()
	return b, nil
}

// forget drops what is known of a topic: b, or what another request was told at the same time. It keeps what is
// known of a later topic of that name.
func (cn *conn) forget(b *binding, topic string) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if now := cn.topics[topic]; now != nil && now.ID == b.ID {
		delete(cn.topics, topic)
	}
}

// seed returns the initial state of the checksums of one partition's entries.
func (b *binding) seed(partition int) uint32 {
	return wire.Identity{Topic: b.ID, Partition: uint32(partition)}.Seed()
}
