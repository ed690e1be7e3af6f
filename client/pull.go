package client

import (
	"context"
	"errors"
	"iter"
)

// errUndone is the reason with which a message of a queue is given back when the loop ended at it. That is an
// attempt: the message may be why the loop ended.
var errUndone = errors.New("client: the loop ended before it asked for the next message")

// Messages is Run for a loop instead of a handler. A message is done, and is committed or
// acknowledged, when the loop asks for the next one. A message at which the loop ends is not done,
// and is delivered again. The last step holds the error that ended reading, as Run returns it; when
// the loop ends by itself there is no such step.
//
// A message is valid until the next step; see Message.Clone. Source.Workers is ignored. The loop is
// not told when it loses a partition or a lease: messages that it handles after that are delivered
// again elsewhere.
//
//	for m, err := range c.Messages(ctx, client.Group("ledger", "account")) {
//		if err != nil {
//			return err
//		}
//		if err := book(m.Value); err != nil {
//			return err // m is delivered again
//		}
//	}
func (c *Client) Messages(ctx context.Context, s Source) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		s.Workers = 1
		l := loop{handed: make(chan *Message), answer: make(chan error)}
		ctx, cancel := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() {
			ran <- c.Run(ctx, s, l.handle)
			close(ran)
		}()
		defer func() { // deferred, because the loop's body may panic
			cancel()
			if l.inHand {
				undone := RetryAfter(0, errUndone)
				if !s.queue { // a group that gave it up would skip it
					undone = ctx.Err()
				}
				l.answer <- undone
			}
			for range ran { // wait for Run; its error was passed on, or is of no interest
			}
		}()
		for {
			select {
			case m := <-l.handed:
				l.inHand = true
				if !yield(m, nil) {
					return
				}
				l.inHand = false
				l.answer <- nil
			case err := <-ran:
				yield(nil, err)
				return
			}
		}
	}
}

// loop passes messages from the only worker of a Run to a loop, one at a time.
type loop struct {
	handed chan *Message
	answer chan error
	inHand bool // the loop's body has a message; used by the loop only
}

// handle is the handler of the Run. It returns when the loop is done with the message, because the
// message is valid until then.
func (l *loop) handle(ctx context.Context, m *Message) error {
	select {
	case l.handed <- m:
		return <-l.answer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
