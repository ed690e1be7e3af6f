package client

import (
	"errors"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

var (
	// ErrClosed is returned by every method after Close was called, and by a Consumer that was
	// closed.
	ErrClosed = errors.New("client: closed")
	// ErrUnknownOutcome is returned when a publish or another change was sent and not answered: it
	// may or may not have been carried out. See the package documentation.
	ErrUnknownOutcome = errors.New("client: outcome unknown")
	// ErrConnectionLost is wrapped by the error of a request that was in progress when the
	// connection broke.
	ErrConnectionLost = errors.New("client: connection lost")
	// ErrProtocol is wrapped by errors that report a peer which does not speak the protocol, or
	// violates it.
	ErrProtocol = errors.New("client: protocol error")
	// ErrAddress is returned by Dial for an address that it cannot parse.
	ErrAddress = errors.New("client: bad address")
	// ErrStop is returned by a handler. It marks the message as done and ends Run.
	ErrStop = errors.New("client: stop")
	// ErrPartitionLost is the cause of a handler's context when the partition of its message has
	// moved, or is about to move, to another member: this member will not commit the message.
	// GroupConsumer.Commit returns it when fetched messages could not be committed.
	ErrPartitionLost = errors.New("client: the partition went to another member of the group")
	// ErrNotLeased is returned by Ack, Nack, Reject and Extend for a message that did not come from
	// a queue, or that was settled before.
	ErrNotLeased = errors.New("client: message is not leased")
)

// Error is a refusal by the broker. errors.Is compares its code, as in errors.Is(err,
// wire.CodeTopicNotFound); errors.As gives the *wire.Error, which also holds the retry class.
//
// With wire.CodeCorruptRange and wire.CodeOffsetOutOfRange, Err.First and Err.Next bound the
// offsets that were skipped, or those that exist; each method says which.
type Error struct {
	Op        string // the operation, such as "publish"
	Topic     string // "" when the operation concerns no topic
	Partition int    // -1 when the operation concerns no single partition
	Err       *wire.Error
}

// Error names the operation, its topic and partition, and what the broker answered.
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

// explain adds the operation and where it was tried to err, which came from the broker or the
// connection, or is a refusal by the client itself.
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

// retryLater reports whether the broker did nothing and asks the client to try again after a pause.
func retryLater(err error) bool {
	we, ok := errors.AsType[*wire.Error](err)
	return ok && we.Retry == wire.RetryLater
}

// lostError ends the requests of a connection that was lost.
type lostError struct {
	reason error
	sent   bool // the request may have reached the broker and been carried out
}

func (e *lostError) Error() string { return fmt.Sprintf("%v: %v", ErrConnectionLost, e.reason) }

func (e *lostError) Unwrap() []error { return []error{ErrConnectionLost, e.reason} }

// lost reports whether err is a lost connection, and if so whether the request may have arrived.
func lost(err error) (sent, ok bool) {
	le, ok := errors.AsType[*lostError](err)
	return ok && le.sent, ok
}

// unknownError adds ErrUnknownOutcome to an error of the broker or the connection.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return fmt.Sprintf("%v: %v", ErrUnknownOutcome, e.err) }

func (e *unknownError) Unwrap() []error { return []error{ErrUnknownOutcome, e.err} }
