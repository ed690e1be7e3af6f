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

// Source names a group or queue, and configures how a client reads it. Make one with Group or
// Queue, and set what differs from the defaults.
type Source struct {
	Name   string // the name of the group or queue
	Topics []string
	queue  bool
	grows  bool // Prefetch is the default, so Run raises it while that is too little

	// Workers is how many handlers run at once. In a group, the messages of one partition are
	// always handled one after the other. Default 1, at most MaxWorkers.
	Workers int
	// From is where a new group or queue starts. A queue cannot start at AfterStart, BeforeEnd or a
	// committed offset. Default: the start.
	From Position
	// BackoffMin and BackoffMax bound the pause before a message is handled again after a failure.
	// The pause doubles with every attempt. BackoffMax counts as BackoffMin if it is less. Default
	// for groups 100 ms and 30 s, for queues the broker's.
	BackoffMin, BackoffMax time.Duration
	// MaxDeliveries is the number of attempts after which a message is given up. Default for
	// groups: no limit; for queues the broker's.
	MaxDeliveries int
	// DeadLetter is the topic for messages that were given up or rejected, not one of Topics. Default for queues
	// "<topic>.<queue>.dlq"; for groups none: such messages are skipped, and reported to
	// Options.OnError.
	DeadLetter string

	// Instance is the name of a member that it keeps when it restarts: a restart within
	// SessionTimeout moves no partition. It must be unique among the members of the group. Default:
	// none.
	Instance string
	// SessionTimeout is how long the broker waits for a heartbeat before the member's partitions
	// move to others. Without an Instance they also move one second after its connection is lost.
	// From 100 ms to 30 min, default 10 s.
	SessionTimeout time.Duration
	// HandoverTimeout is how long a handler may go on when its partition is to move to another
	// member. After that its context ends, and its message is not committed. From 1 ms to 1 h,
	// default 30 s.
	HandoverTimeout time.Duration
	// CommitInterval is how often a group commits its progress. Default 1 s.
	CommitInterval time.Duration
	// CreditBytes bounds what the broker sends ahead to a member of a group, over all its
	// partitions. Each partition gets at least 64 KiB and at most 1 GiB. Default 8 MiB.
	CreditBytes int

	// Middleware wraps the handler; the first one is the outermost. Use it for logs, traces,
	// metrics and limits.
	Middleware []func(Handler) Handler

	// OrderByKey makes a queue deliver the messages of one key one after the other: a message waits
	// until all earlier ones of its key in the partition are done or given up. Other keys do not
	// wait. It is a property of the queue: the client that opened the queue last decides.
	OrderByKey bool
	// Lease is how long a worker of a queue owns a message before the broker delivers it to
	// another. Run extends the lease while the message waits or is handled. Default 30 s, at most 12 h.
	Lease time.Duration
	// MaxLease bounds how long Run extends a lease. A handler that takes longer loses its message,
	// and its context ends. Default 15 min, or Lease if that is longer.
	MaxLease time.Duration
	// Prefetch is how many messages of a queue Run leases ahead. Thousands suit handlers that take
	// microseconds; one for each worker suits handlers that take minutes. When a process is killed,
	// that was an attempt for what it had leased ahead, too. Default 32 for each worker, and up to 1000 in
	// all while the workers handle what is leased ahead faster than the broker's next answer arrives, as
	// over a long distance; one for each worker when MaxDeliveries is 1 or 2. Limit 65,535, to which more
	// is lowered.
	Prefetch int
}

// Group names a group. Its members, in any number of processes, share the partitions of its topics.
// Each reads its partitions in order and commits its progress.
func Group(name string, topics ...string) Source { return Source{Name: name, Topics: topics} }

// Queue names a queue. Each message of its topics goes to one worker, in any process, and is
// settled by itself.
func Queue(name string, topics ...string) Source {
	return Source{Name: name, Topics: topics, queue: true}
}

// DefaultSessionTimeout is the default of Source.SessionTimeout. A member sends four heartbeats in
// a session timeout.
const DefaultSessionTimeout = 10 * time.Second

const (
	mostAhead   = 1000           // unless a program wants more
	maxPrefetch = 1<<16 - 1      // what a broker leases at once
	maxLease    = 12 * time.Hour // what a broker lowers a lease to, so it has to be extended before
)

// MaxWorkers is how many handlers of one run or listener may run at once. Each has a goroutine, also while there is
// nothing to do: so many take half a gigabyte.
const MaxWorkers = 1 << 16

var (
	errManyWorkers = fmt.Errorf("client: Workers is at most %d", MaxWorkers)
	errNoHandler   = errors.New("client: the handler is nil")
)

// fewDeliveries is up to how many MaxDeliveries the kill of a process matters to what it had leased ahead: a second one
// makes a dead letter of a message that no handler has seen.
const fewDeliveries = 2

func (s Source) withDefaults() Source {
	set(&s.Workers, 1)
	set(&s.SessionTimeout, DefaultSessionTimeout)
	set(&s.HandoverTimeout, 30*time.Second)
	set(&s.CommitInterval, time.Second)
	set(&s.CreditBytes, defaultCredit)
	set(&s.Lease, 30*time.Second)
	s.Lease = min(s.Lease, maxLease)
	set(&s.MaxLease, max(15*time.Minute, s.Lease))
	ahead := 32
	if s.MaxDeliveries > 0 && s.MaxDeliveries <= fewDeliveries {
		ahead = 1
	}
	s.grows = s.grows || s.Prefetch == 0 && ahead > 1
	set(&s.Prefetch, min(mostAhead, ahead*min(s.Workers, MaxWorkers)))
	s.Prefetch = min(s.Prefetch, maxPrefetch)
	if !s.queue {
		set(&s.BackoffMin, 100*time.Millisecond)
		set(&s.BackoffMax, 30*time.Second)
		s.BackoffMax = max(s.BackoffMax, s.BackoffMin)
	}
	return s
}

func (s *Source) validate() error {
	switch {
	case s.Name == "" || len(s.Topics) == 0:
		return errors.New("client: a source needs a name and at least one topic")
	case s.Workers > MaxWorkers:
		return errManyWorkers
	case s.Workers < 0, s.MaxDeliveries < 0, s.Prefetch < 0, s.CreditBytes < 0:
		return errors.New("client: Workers, MaxDeliveries, Prefetch and CreditBytes of a source must not be negative")
	case s.BackoffMin < 0, s.BackoffMax < 0, s.Lease < 0, s.MaxLease < 0, s.CommitInterval < 0:
		return errors.New("client: BackoffMin, BackoffMax, Lease, MaxLease and CommitInterval of a source must not be negative")
	case s.DeadLetter != "" && slices.Contains(s.Topics, s.DeadLetter):
		return fmt.Errorf("client: DeadLetter is %q, which the source reads: dead letters would come back for ever", s.DeadLetter)
	case s.DeadLetter != "" && wire.CheckName("topic", s.DeadLetter) != nil: // only when the first message was given up
		return fmt.Errorf("client: DeadLetter: %w", wire.CheckName("topic", s.DeadLetter))
	case s.OrderByKey && !s.queue:
		return errors.New("client: OrderByKey is for queues; a group keeps the order of whole partitions")
	case s.SessionTimeout < 100*time.Millisecond || s.SessionTimeout > 30*time.Minute:
		return fmt.Errorf("client: SessionTimeout is %v, it must be 100 ms to 30 min", s.SessionTimeout)
	case s.HandoverTimeout < time.Millisecond || s.HandoverTimeout > time.Hour:
		return fmt.Errorf("client: HandoverTimeout is %v, it must be 1 ms to 1 h", s.HandoverTimeout)
	case len(s.Instance) > wire.MaxMemberName:
		return fmt.Errorf("client: Instance has %d bytes, the limit is %d", len(s.Instance), wire.MaxMemberName)
	case s.queue && s.From.kind >= fromCommitted:
		return fmt.Errorf("client: a queue cannot start at %q: use start, end, last, an offset or a time", s.From)
	}
	return nil
}

// Handler handles one message. Its result decides what happens to the message:
//
//	nil                 it is done: committed or acknowledged
//	RetryAfter(d, err)  it is delivered again after d
//	Reject(err)         it goes to the dead-letter topic
//	ErrStop             it is done, and Run ends
//	any other error     it is delivered again after a backoff that grows with each attempt
//	a panic             the same, and the panic is reported to Options.OnError
//
// The error of a context that has ended, because Run ends or the partition moves, does not count as an attempt.
// The message is valid until the handler returns; see Message.Clone. The context ends when Run's
// does, when the message's lease or partition is lost, and when Close runs out of time. Up to
// Source.Workers handlers run at once, on goroutines of their own.
type Handler func(ctx context.Context, m *Message) error

// RetryAfter returns an error for a handler to return: the message is delivered again after d. A
// negative d means the backoff of the source.
func RetryAfter(d time.Duration, err error) error { return &retryError{after: d, err: err} }

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return fmt.Sprintf("retry after %v: %v", e.after, e.err) }

func (e *retryError) Unwrap() error { return e.err }

// Reject returns an error for a handler to return: the message goes to the dead-letter topic
// instead of being delivered again.
func Reject(err error) error { return &rejectError{err} }

type rejectError struct{ err error }

func (e *rejectError) Error() string { return fmt.Sprintf("rejected: %v", e.err) }

func (e *rejectError) Unwrap() error { return e.err }

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any    // the value of the panic
	Stack []byte // the stack trace of the panic
}

// Error returns the value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// wrap puts the source's middleware around h.
func (s *Source) wrap(h Handler) (Handler, error) {
	if h == nil {
		return nil, errNoHandler
	}
	for _, outer := range slices.Backward(s.Middleware) {
		if outer == nil {
			return nil, errors.New("client: a Middleware of a source is nil")
		}
		if h = outer(h); h == nil {
			return nil, errors.New("client: a Middleware of a source returned no handler")
		}
	}
	return h, nil
}

// guard turns panics of h into errors, and reports them.
func guard(h Handler, report func(error)) Handler {
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

// verdict is what the result of a handler means.
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

// backoff returns the pause after the given attempt, counted from 1.
func (s *Source) backoff(attempt int) time.Duration {
	d := s.BackoffMin
	for range attempt - 1 {
		if d = 2 * d; d >= s.BackoffMax {
			return jitter(s.BackoffMax)
		}
	}
	return jitter(d)
}
