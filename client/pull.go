package client

import (
	"context"
	"errors"
	"iter"
)

// errUndone is why a message that a loop ended with comes again.
var errUndone = errors.New("client: the loop ended before it asked for the next message")

// Messages is Run for a loop instead of a handler. A message is done, and is committed or acknowledged,
// when the loop asks for the next one; a message at which the loop breaks off is not, and is delivered
// again. The last step holds the error that ended reading, as Run returns it; there is none when the loop
// breaks off. A message is valid until the next step; see Message.Clone. Source.Workers is ignored, and the
// loop is not told when it loses a partition or a lease: messages it handled after that are delivered again
// elsewhere.
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
		ended := false
		defer func() { // also when the loop's body panics
			cancel()
			if l.inHand {
				l.answer <- RetryAfter(0, errUndone)
			}
			if !ended {
				for range ran { // until Run has returned; nobody asks why
				}
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
				ended = true
				yield(nil, err)
				return
			}
		}
	}
}

// loop hands messages from the one worker of a Run to a loop, one at a time.
type loop struct {
	handed chan *Message
	answer chan error
	inHand bool // the loop's body has a message; the loop's
}

// handle is the handler of the Run. It returns when the loop is done with the message, because until
// then the message must stay.
func (l *loop) handle(ctx context.Context, m *Message) error {
	select {
	case l.handed <- m:
		return <-l.answer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
