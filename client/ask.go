package client

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/wire"
)

// Headers of an answer that reports an error. NATS services use the same names.
const (
	HeaderReplyError     = "Nats-Service-Error"
	HeaderReplyErrorCode = "Nats-Service-Error-Code"
)

// ReplyError is the error that the handler of a Reply answered a request with.
type ReplyError struct {
	Code   string // "500" from a Reply; another service may use codes of its own
	Detail string
}

// Error returns the code and the detail.
func (e *ReplyError) Error() string {
	return fmt.Sprintf("answered with error %s: %s", e.Code, e.Detail)
}

// inbox receives the answers to a client's requests. One subscription serves all of them.
type inbox struct {
	mu      sync.Mutex // guards the fields below
	prefix  string
	next    uint64
	waiting map[string]*question // by reply subject

	starting gate      // guards l, and is held while l starts
	l        *Listener // nil before the first request
}

// question is a request that waits for its answer.
type question struct {
	conn   *conn
	answer chan answered
}

type answered struct {
	m   *Message
	err error
}

// Request sends m to m.Subject and waits for one answer, within ctx and Options.RequestTimeout. The
// error is ErrNoResponders, at once, when nobody listens to the subject; a *ReplyError when the
// answer reports an error; and ErrUnknownOutcome when the connection broke before the answer, or the
// broker took away the right to hear answers. When a topic is bound to the subject, the message is stored and
// the answer is JSON that says where. m is copied before Request waits, and the caller may keep the answer.
func (c *Client) Request(ctx context.Context, m *Message) (*Message, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	in := &c.inbox
	if err := in.start(ctx, c); err != nil {
		return nil, err
	}
	reply, q := in.ask()
	defer in.forget(reply)
	out := *m
	out.Reply = reply
	cn, id, err := c.send(ctx, &out, wire.FlagNoResponders, func(err error) { q.settle(nil, err) })
	if err != nil {
		return nil, err
	}
	defer cn.received(id)
	in.sentOn(q, cn)
	cn.push()
	select {
	case a := <-q.answer:
		if a.err != nil {
			return nil, a.err
		}
		return a.m, replyError(a.m)
	case <-ctx.Done():
		return nil, fmt.Errorf("request %s: %w", m.Subject, context.Cause(ctx))
	}
}

// received drops the callback for a refusal of the message: an answer shows that it was not
// refused.
func (cn *conn) received(id uint32) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	delete(cn.sends, id)
}

func replyError(m *Message) error {
	if detail := m.Header(HeaderReplyError); detail != nil {
		return &ReplyError{Code: string(m.Header(HeaderReplyErrorCode)), Detail: string(detail)}
	}
	return nil
}

// start subscribes to the inbox unless that is done. It does so again when the broker has ended the
// subscription, for example because a permission was withdrawn for a while.
func (in *inbox) start(ctx context.Context, c *Client) error {
	if err := in.starting.enter(ctx); err != nil {
		return err
	}
	defer in.starting.leave()
	if in.l != nil && !in.l.hasEnded() {
		return nil
	}
	prefix := "_INBOX." + strings.ReplaceAll(uuid.NewString(), "-", "") + "."
	in.mu.Lock()
	in.prefix = prefix
	if in.waiting == nil {
		in.waiting = map[string]*question{}
	}
	in.mu.Unlock()
	in.l = c.newListener(prefix+"*", ListenOptions{})
	in.l.inline = in.arrived
	close(in.l.done) // it has no handlers
	if err := in.l.start(ctx); err != nil {
		in.l.end(nil)
		return err
	}
	return nil
}

func (in *inbox) ask() (reply string, q *question) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next++
	reply = fmt.Sprintf("%s%d", in.prefix, in.next)
	q = &question{answer: make(chan answered, 1)}
	in.waiting[reply] = q
	return reply, q
}

func (in *inbox) forget(reply string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.waiting, reply)
}

// sentOn notes the connection that q was sent on. If it is lost already, q ends now.
func (in *inbox) sentOn(q *question, cn *conn) {
	in.mu.Lock()
	q.conn = cn
	in.mu.Unlock()
	if !cn.alive() {
		in.lost(cn)
	}
}

func (in *inbox) arrived(m *Message, nobody bool) {
	in.mu.Lock()
	q := in.waiting[m.Subject]
	in.mu.Unlock()
	switch {
	case q == nil: // the request has ended, or this is a second answer
	case nobody:
		q.settle(nil, ErrNoResponders)
	default:
		q.settle(m, nil)
	}
}

// lost ends every question that was sent on cn.
func (in *inbox) lost(cn *conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, q := range in.waiting {
		if q.conn == cn {
			q.settle(nil, &unknownError{&lostError{reason: cn.err, sent: true}})
		}
	}
}

// broken ends every question, because the broker has ended the subscription to the answers.
func (in *inbox) broken(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, q := range in.waiting {
		q.settle(nil, &unknownError{err})
	}
}

// settle ends the question. Only the first call counts.
func (q *question) settle(m *Message, err error) {
	select {
	case q.answer <- answered{m, err}:
	default:
	}
}

// Reply listens like Listen, and answers every request with what h returns. An error of h is sent
// as an answer as well, and Request returns it as a *ReplyError. So is a panic, without its stack. A
// message without a reply subject is handled and not answered.
func (c *Client) Reply(ctx context.Context, pattern string, o ListenOptions, h func(context.Context, *Message) ([]byte, error)) (*Listener, error) {
	if h == nil {
		return nil, errNoHandler
	}
	h = c.caught(h)
	return c.Listen(ctx, pattern, o, func(ctx context.Context, m *Message) {
		value, err := h(ctx, m)
		if m.Reply == "" {
			return
		}
		answer := &Message{Subject: m.Reply, Value: value}
		if err != nil {
			detail := strings.Map(oneLine, err.Error())
			answer.Headers = []Header{{HeaderReplyError, []byte(detail)}, {HeaderReplyErrorCode, []byte("500")}}
		}
		if err := c.Send(ctx, answer); err != nil && c.ctx.Err() == nil {
			c.report(fmt.Errorf("answer on %s: %w", m.Reply, err))
		}
	})
}

// caught turns panics of h into errors, and reports them.
func (c *Client) caught(h func(context.Context, *Message) ([]byte, error)) func(context.Context, *Message) ([]byte, error) {
	return func(ctx context.Context, m *Message) (value []byte, err error) {
		defer func() {
			if v := recover(); v != nil {
				value, err = nil, &PanicError{Value: v, Stack: debug.Stack()}
				c.report(fmt.Errorf("%s: %w", m.Subject, err))
			}
		}()
		return h(ctx, m)
	}
}

// oneLine replaces line ends, which a header line cannot hold.
func oneLine(r rune) rune {
	if r == '\r' || r == '\n' {
		return ' '
	}
	return r
}
