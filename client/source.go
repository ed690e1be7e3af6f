package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Source says what Run and OpenQueue read. Make one with Group or Queue and set what differs from
// the defaults.
type Source struct {
	Name   string // of the group or queue
	Topics []string
	queue  bool

	// Workers is how many handlers run at once. Default 1. In a group the messages of one partition
	// are always handled one after the other.
	Workers int
	// From is where a new group or queue starts. Default: the start. A queue cannot start at AfterStart,
	// BeforeEnd or a committed offset.
	From Position
	// BackoffMin and BackoffMax bound the pause before a message whose handler failed is handled again;
	// it doubles with every attempt. Default for groups 100 ms and 30 s, for queues the broker's.
	BackoffMin, BackoffMax time.Duration
	// MaxDeliveries is the number of attempts after which a message is given up. Default for groups: never;
	// for queues the broker's.
	MaxDeliveries int
	// DeadLetter is the topic for messages that were given up or rejected. Default for queues
	// "<topic>.<queue>.dlq"; for groups none: such messages are skipped and reported to
	// Options.OnError.
	DeadLetter string

	// Instance is a name that a member of a group keeps when it restarts: a restart within SessionTimeout
	// moves no partition. It must be unique among the members. Default: none.
	Instance string
	// SessionTimeout is how long the broker waits for a heartbeat before a member's partitions move to
	// others; without an Instance they move a second after its connection is lost. Default 10 s, 100 ms to
	// 30 min.
	SessionTimeout time.Duration
	// HandoverTimeout is how long a handler may take to finish when its partition moves to another member.
	// Then its context ends, and its message is not committed. Default 30 s, at most 1 h.
	HandoverTimeout time.Duration
	// CommitInterval is how often a group's progress is committed. Default 1 s.
	CommitInterval time.Duration
	// CreditBytes bounds what a group receives ahead. Default 8 MiB per topic.
	CreditBytes int

	// Middleware wraps the handler, the first one outermost, for logs, traces, metrics and limits.
	Middleware []func(Handler) Handler

	// OrderByKey has the broker deliver the messages of one key in a queue one after the other: a message
	// is delivered when all earlier ones of its key in the partition are done or were given up. Other keys
	// do not wait. It is a property of the queue: the last client that opened the queue decides.
	OrderByKey bool
	// Lease is how long a worker of a queue owns a message before the broker delivers it to another. Run
	// extends it while the message waits or is handled. Default 30 s.
	Lease time.Duration
	// MaxLease bounds how long Run extends a lease: a handler that takes longer loses its message, and its
	// context ends. Default 15 min.
	MaxLease time.Duration
	// Prefetch is how many messages of a queue Run leases ahead: thousands where handlers take
	// microseconds, one for each worker where they take minutes. Default 32 for each worker, up to 1000.
	Prefetch int
}

// Group names a group: its members, wherever they run, share the partitions of its topics, read each in
// order, and commit their progress.
func Group(name string, topics ...string) Source { return Source{Name: name, Topics: topics} }

// Queue names a queue: each message of its topics goes to one worker, wherever that runs, and is settled
// individually.
func Queue(name string, topics ...string) Source {
	return Source{Name: name, Topics: topics, queue: true}
}

// DefaultSessionTimeout is the default of Source.SessionTimeout. A member sends four heartbeats in that
// time.
const DefaultSessionTimeout = 10 * time.Second

const maxPrefetch = 1000

func (s Source) withDefaults() Source {
	set(&s.Workers, 1)
	set(&s.SessionTimeout, DefaultSessionTimeout)
	set(&s.HandoverTimeout, 30*time.Second)
	set(&s.CommitInterval, time.Second)
	set(&s.CreditBytes, defaultCredit)
	set(&s.Lease, 30*time.Second)
	set(&s.MaxLease, max(15*time.Minute, s.Lease))
	set(&s.Prefetch, min(maxPrefetch, 32*s.Workers))
	if !s.queue {
		set(&s.BackoffMin, 100*time.Millisecond)
		set(&s.BackoffMax, max(30*time.Second, s.BackoffMin))
	}
	return s
}

func (s *Source) validate() error {
	switch {
	case s.Name == "" || len(s.Topics) == 0:
		return errors.New("client: a source needs a name and a topic")
	case s.Workers < 0, s.MaxDeliveries < 0, s.Prefetch < 0, s.CreditBytes < 0:
		return errors.New("client: negative number in the source")
	case s.BackoffMin < 0, s.BackoffMax < 0, s.Lease < 0, s.MaxLease < 0, s.CommitInterval < 0:
		return errors.New("client: negative duration in the source")
	case s.OrderByKey && !s.queue:
		return errors.New("client: OrderByKey is for queues; a group keeps the order of whole partitions")
	case s.SessionTimeout < 100*time.Millisecond || s.SessionTimeout > 30*time.Minute:
		return fmt.Errorf("client: a session timeout of %v, 100 ms to 30 min are possible", s.SessionTimeout)
	case s.HandoverTimeout < time.Millisecond || s.HandoverTimeout > time.Hour:
		return fmt.Errorf("client: a hand-over timeout of %v, 1 ms to 1 h are possible", s.HandoverTimeout)
	case len(s.Instance) > wire.MaxMemberName:
		return errors.New("client: the instance is too long")
	case s.queue && s.From.kind >= fromCommitted:
		return fmt.Errorf("client: a queue cannot start at %q", s.From)
	}
	return nil
}

// Handler handles one message. What it returns decides what becomes of the message:
//
//	nil                 it is done: committed or acknowledged
//	RetryAfter(d, err)  again after d
//	Reject(err)         never again: to the dead-letter topic
//	ErrStop             it is done, and Run ends
//	any other error     again after a backoff that grows with each attempt
//	a panic             the same, and it is reported to Options.OnError
//
// The message is valid until the handler returns; see Message.Clone. The context ends when Run's
// does, when the message's lease or its partition is lost, or when Close runs out of time. Handlers
// run on as many goroutines as the source has workers.
type Handler func(ctx context.Context, m *Message) error

// RetryAfter returns an error that has the handler's message delivered again after d. A negative d means
// the backoff of the source.
func RetryAfter(d time.Duration, err error) error { return &retryError{after: d, err: err} }

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return fmt.Sprintf("retry after %v: %v", e.after, e.err) }

func (e *retryError) Unwrap() error { return e.err }

// Reject returns an error that sends the handler's message to the dead-letter topic instead of delivering
// it again.
func Reject(err error) error { return &rejectError{err} }

type rejectError struct{ err error }

func (e *rejectError) Error() string { return fmt.Sprintf("rejected: %v", e.err) }

func (e *rejectError) Unwrap() error { return e.err }

// PanicError stands for the error that a handler did not return because it panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // where
}

func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// guard returns h inside the source's middleware, with its panics turned into errors.
func (s *Source) guard(h Handler, report func(error)) Handler {
	for _, wrap := range slices.Backward(s.Middleware) {
		h = wrap(h)
	}
	return func(ctx context.Context, m *Message) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
				report(fmt.Errorf("%s/%d@%d: %w", m.Topic, m.Partition, m.Offset, err))
			}
		}()
		return h(ctx, m)
	}
}

// verdict is what a handler decided.
type verdict struct {
	done   bool
	stop   bool
	reject bool
	after  time.Duration // until the next attempt; negative for the backoff
	reason string
}

func judge(err error) verdict {
	if err == nil {
		return verdict{done: true}
	}
	if errors.Is(err, ErrStop) {
		return verdict{done: true, stop: true}
	}
	if r, ok := errors.AsType[*rejectError](err); ok {
		return verdict{reject: true, reason: fmt.Sprint(r.err)}
	}
	if r, ok := errors.AsType[*retryError](err); ok {
		return verdict{after: r.after, reason: fmt.Sprint(r.err)}
	}
	return verdict{after: -1, reason: err.Error()}
}

// backoff returns the pause behind the given attempt, from 1.
func (s *Source) backoff(attempt int) time.Duration {
	d := s.BackoffMin
	for range attempt - 1 {
		if d = 2 * d; d >= s.BackoffMax {
			return jitter(s.BackoffMax)
		}
	}
	return jitter(d)
}
