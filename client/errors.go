package client

import (
	"errors"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

var (
	// ErrClosed is returned by every method after Close began, and by a Consumer that was closed.
	ErrClosed = errors.New("client: closed")
	// ErrUnknownOutcome is returned for a publish or another change that was sent and never
	// answered: it may or may not have been carried out. See the package documentation.
	ErrUnknownOutcome = errors.New("client: outcome unknown")
	// ErrConnectionLost is wrapped by the errors of requests that were in progress when the connection
	// broke.
	ErrConnectionLost = errors.New("client: connection lost")
	// ErrProtocol is the reason a connection was closed because the other side does not speak the
	// protocol, or broke it.
	ErrProtocol = errors.New("client: protocol error")
	// ErrAddress is returned by Dial for an address that cannot be parsed.
	ErrAddress = errors.New("client: bad address")
	// ErrStop is returned by a handler to settle its message and end Run.
	ErrStop = errors.New("client: stop")
	// ErrPartitionLost is the cause of a handler's context when the partition of its message has moved, or
	// is about to move, to another member: the message will not be committed by this one.
	ErrPartitionLost = errors.New("client: the partition went to another member of the group")
	// ErrNotLeased is returned by Ack, Nack, Reject and Extend for a message that did not come from a queue
	// or was already settled.
	ErrNotLeased = errors.New("client: message is not leased")
)

// Error is a refusal by the broker. errors.Is(err, wire.CodeTopicNotFound) and the like hold, and
// errors.As gives the *wire.Error with the retry class and the range.
//
// With wire.CodeCorruptRange and wire.CodeOffsetOutOfRange, Err.First and Err.Next are the offsets
// that were skipped, or that exist; each method says which.
type Error struct {
	Op        string // what was asked for, such as "publish"
	Topic     string // "" when no topic is concerned
	Partition int    // -1 when no partition is concerned
	Err       *wire.Error
}

// Error says what was asked, where, and what the broker answered.
func (e *Error) Error() string {
	switch {
	case e.Topic == "":
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	case e.Partition < 0:
		return fmt.Sprintf("%s %s: %v", e.Op, e.Topic, e.Err)
	}
	return fmt.Sprintf("%s %s/%d: %v", e.Op, e.Topic, e.Partition, e.Err)
}

// Unwrap returns the broker's error.
func (e *Error) Unwrap() error { return e.Err }

// anyPartition marks an Error that concerns no single partition.
const anyPartition = -1

// explain puts what was asked in front of err, which came from the broker or the connection.
func explain(err error, op wire.Op, topic string, partition int) error {
	if err == nil {
		return nil
	}
	if we, ok := errors.AsType[*wire.Error](err); ok {
		return &Error{Op: op.String(), Topic: topic, Partition: partition, Err: we}
	}
	if topic == "" {
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s %s: %w", op, topic, err)
}

// retryLater reports whether the broker did nothing and asks to be tried again after a pause.
func retryLater(err error) bool {
	we, ok := errors.AsType[*wire.Error](err)
	return ok && we.Retry == wire.RetryLater
}

// lostError tells requests of a dead connection whether they may have been carried out.
type lostError struct {
	reason error
	sent   bool // the whole request may have reached the broker
}

func (e *lostError) Error() string { return fmt.Sprintf("%v: %v", ErrConnectionLost, e.reason) }

func (e *lostError) Unwrap() []error { return []error{ErrConnectionLost, e.reason} }

// lost reports whether err is a lost connection, and if so whether the request may have arrived.
func lost(err error) (sent, ok bool) {
	le, ok := errors.AsType[*lostError](err)
	return ok && le.sent, ok
}

// unknownError adds ErrUnknownOutcome to an error that the broker or the connection gave.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return fmt.Sprintf("%v: %v", ErrUnknownOutcome, e.err) }

func (e *unknownError) Unwrap() []error { return []error{ErrUnknownOutcome, e.err} }
