package wire

import (
	"errors"
	"fmt"
)

// Code is the kind of a failure that crosses the network. A number never changes its meaning. A Code is an
// error, so callers can write errors.Is(err, wire.CodeTopicNotFound).
type Code uint16

// Retry says whether sending the same request again can help.
type Retry uint8

const (
	// RetryNever means the request is wrong or not allowed: change it first.
	RetryNever Retry = 0
	// RetryLater means nothing was done and the same request may succeed after a pause.
	RetryLater Retry = 1
	// RetryUnknown means the request may or may not have been carried out. Only an idempotent
	// request may be sent again.
	RetryUnknown Retry = 2
)

const (
	// CodeOK is no failure.
	CodeOK Code = 0
	// CodeMalformed says that a frame could not be decoded; the connection is closed.
	CodeMalformed Code = 1
	// CodeUnsupported says that the broker does not support the operation, flag or version.
	CodeUnsupported Code = 2
	// CodeTooLarge says that a frame, batch, record or field is over its limit.
	CodeTooLarge Code = 3
	// CodeInvalid says that a field has a value that is not allowed.
	CodeInvalid Code = 4
	// CodeCorruptBatch says that a batch's checksum or structure is wrong; nothing was appended.
	CodeCorruptBatch Code = 5
	// CodeUnauthenticated says that the connection has not logged in, or the login failed.
	CodeUnauthenticated Code = 6
	// CodeForbidden says that the user may not do this.
	CodeForbidden Code = 7
	// CodeLimit says that a named limit (connections, in-flight requests, topics, …) is reached.
	CodeLimit Code = 8
	// CodeShutdown says that the broker is stopping; reconnect.
	CodeShutdown Code = 9
	// CodeInternal says that the broker failed because of a bug; see its log.
	CodeInternal Code = 10
	// CodeTimeout says that the time allowed for the request ran out. It is reserved: the broker does not send it.
	CodeTimeout Code = 11
	// CodeTLSRequired says that the broker accepts only connections with TLS.
	CodeTLSRequired Code = 12

	// CodeTopicNotFound says that no topic has this name or handle.
	CodeTopicNotFound Code = 20
	// CodeTopicExists says that a topic of this name exists already, whatever its configuration.
	CodeTopicExists Code = 21
	// CodePartitionNotFound says that the topic has no such partition.
	CodePartitionNotFound Code = 22
	// CodeNotOwner says that this broker does not own the partition; the detail names the owner.
	CodeNotOwner Code = 23
	// CodeTopicDeleted says that the topic was deleted while the request waited.
	CodeTopicDeleted Code = 24

	// CodeOffsetOutOfRange says that the offset is before the first or after the next one. First
	// and Next of the error are the range that exists.
	CodeOffsetOutOfRange Code = 30
	// CodeCorruptRange says that stored records are damaged. First and Next of the error are the
	// lost range; reading can go on at Next.
	CodeCorruptRange Code = 31
	// CodeStorageFull says that the disk or the memory budget is full; nothing was appended.
	CodeStorageFull Code = 32
	// CodeReadOnly says that the partition refuses writes after a failed write or flush.
	CodeReadOnly Code = 33
	// CodeStorage says that a write or flush failed after the append: the outcome is unknown.
	CodeStorage Code = 34
	// CodeBusy says that the broker asks the sender to slow down; nothing was appended.
	CodeBusy Code = 35
	// CodeDuplicate says that a batch of several records has one whose message id is known, or an id
	// twice. First of the error is the offset of the known one. Nothing was appended: send the records
	// one by one.
	CodeDuplicate Code = 36
	// CodeKeyNotFound says that no record has the key, or that the latest one is a tombstone.
	CodeKeyNotFound Code = 37

	// CodeGroupNotFound says that the group has no state here.
	CodeGroupNotFound Code = 40
	// CodeLeaseLost says that a settled message is not leased under the given attempt any more.
	CodeLeaseLost Code = 41
	// CodeFenced says that a newer generation or epoch owns what the request names.
	CodeFenced Code = 42
	// CodeOutOfSequence says that records of an idempotent producer before the batch are missing. Nothing
	// was appended. Send the batch again after them.
	CodeOutOfSequence Code = 45
	// CodeNotMember says that the group does not, or no longer, have the member: join again.
	CodeNotMember Code = 46
	// CodeSlowConsumer says that the broker dropped a subscriber that did not read. It is reserved: the broker closes
	// the connection instead.
	CodeSlowConsumer Code = 43
	// CodeSubscriptionNotFound says that the connection has no such subscription.
	CodeSubscriptionNotFound Code = 44
)

// codeInfo is the name, sentence and retry class of a code.
type codeInfo struct {
	name     string
	sentence string
	retry    Retry
}

var codes = map[Code]codeInfo{
	CodeOK:                   {"OK", "no error", RetryNever},
	CodeMalformed:            {"MALFORMED", "the frame could not be decoded", RetryNever},
	CodeUnsupported:          {"UNSUPPORTED", "the operation, flag or version is not supported", RetryNever},
	CodeTooLarge:             {"TOO_LARGE", "a size limit was exceeded", RetryNever},
	CodeInvalid:              {"INVALID", "a field has a value that is not allowed", RetryNever},
	CodeCorruptBatch:         {"CORRUPT_BATCH", "the batch is damaged and was not appended", RetryNever},
	CodeUnauthenticated:      {"UNAUTHENTICATED", "the connection is not logged in", RetryNever},
	CodeForbidden:            {"FORBIDDEN", "the user is not allowed to do this", RetryNever},
	CodeLimit:                {"LIMIT", "a limit of the broker is reached", RetryLater},
	CodeShutdown:             {"SHUTDOWN", "the broker is shutting down", RetryLater},
	CodeInternal:             {"INTERNAL", "the broker failed internally", RetryUnknown},
	CodeTimeout:              {"TIMEOUT", "the request ran out of time", RetryUnknown},
	CodeTLSRequired:          {"TLS_REQUIRED", "the broker accepts only connections with TLS", RetryNever},
	CodeTopicNotFound:        {"TOPIC_NOT_FOUND", "the topic does not exist", RetryNever},
	CodeTopicExists:          {"TOPIC_EXISTS", "the topic exists already", RetryNever},
	CodePartitionNotFound:    {"PARTITION_NOT_FOUND", "the partition does not exist", RetryNever},
	CodeNotOwner:             {"NOT_OWNER", "this broker does not own the partition", RetryNever},
	CodeTopicDeleted:         {"TOPIC_DELETED", "the topic was deleted", RetryNever},
	CodeOffsetOutOfRange:     {"OFFSET_OUT_OF_RANGE", "the offset is outside the stored range", RetryNever},
	CodeCorruptRange:         {"CORRUPT_RANGE", "stored records are damaged", RetryNever},
	CodeStorageFull:          {"STORAGE_FULL", "the storage is full", RetryLater},
	CodeReadOnly:             {"READ_ONLY", "the partition refuses writes after a storage failure", RetryNever},
	CodeStorage:              {"STORAGE", "a write or flush failed, the outcome is unknown", RetryUnknown},
	CodeBusy:                 {"BUSY", "the broker is overloaded, slow down", RetryLater},
	CodeDuplicate:            {"DUPLICATE", "a message with this id was stored before", RetryNever},
	CodeKeyNotFound:          {"KEY_NOT_FOUND", "no record has this key", RetryNever},
	CodeGroupNotFound:        {"GROUP_NOT_FOUND", "the group does not exist", RetryNever},
	CodeLeaseLost:            {"LEASE_LOST", "the lease ended before it was settled", RetryNever},
	CodeFenced:               {"FENCED", "a newer owner has taken over", RetryNever},
	CodeOutOfSequence:        {"OUT_OF_SEQUENCE", "records before these are missing", RetryLater},
	CodeSlowConsumer:         {"SLOW_CONSUMER", "the subscriber did not keep up", RetryLater},
	CodeNotMember:            {"NOT_MEMBER", "the group does not know the member; it may join again", RetryNever},
	CodeSubscriptionNotFound: {"SUBSCRIPTION_NOT_FOUND", "the subscription does not exist", RetryNever},
}

// String returns the code's stable name, such as "TOPIC_NOT_FOUND".
func (c Code) String() string {
	if info, ok := codes[c]; ok {
		return info.name
	}
	return fmt.Sprintf("CODE_%d", uint16(c))
}

// Error returns the code's sentence.
func (c Code) Error() string {
	if info, ok := codes[c]; ok {
		return info.sentence
	}
	return fmt.Sprintf("unknown error code %d", uint16(c))
}

// Retry says whether sending the same request again can help.
func (c Code) Retry() Retry { return codes[c].retry }

// Error is a failure reported by the broker, with its detail.
type Error struct {
	Code   Code
	Retry  Retry  // set by the broker; usually Code.Retry()
	First  uint64 // CodeOffsetOutOfRange, CodeCorruptRange, CodeDuplicate: start of a range of offsets, else 0
	Next   uint64 // of the same codes: end of the range, exclusive, else 0
	Detail string // a sentence for a person; at most MaxDetailBytes
}

// MaxDetailBytes bounds the detail of an error, which should fit a log line. A longer one is cut.
const MaxDetailBytes = 1 << 10

// Errorf returns an *Error with the code's own retry class and a formatted detail.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Retry: c.Retry(), Detail: fmt.Sprintf(format, args...)}
}

// Error returns the stable name and the detail, or the code's sentence when there is no detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code.String() + ": " + e.Code.Error()
	}
	return e.Code.String() + ": " + e.Detail
}

// Unwrap returns the code, so errors.Is(err, wire.CodeX) holds.
func (e *Error) Unwrap() error { return e.Code }

// CodeOf returns the code in err's chain: CodeOK for nil, and CodeInternal when there is none.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	return CodeInternal
}

// errorFixed is the size of an encoded error before its detail.
const errorFixed = 2 + 1 + 8 + 8

// Append appends the encoded error: the body of every error reply.
//
//	0       2       3        11       19
//	+-------+-------+--------+--------+----------+
//	| code  | retry | first  | next   | detail   |
//	+-------+-------+--------+--------+----------+
func (e *Error) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(e.Code))
	dst = append(dst, byte(e.Retry))
	dst = le.AppendUint64(dst, e.First)
	dst = le.AppendUint64(dst, e.Next)
	return append(dst, e.Detail[:min(len(e.Detail), MaxDetailBytes)]...)
}

// Parse sets e from body, and keeps no reference to it.
func (e *Error) Parse(body []byte) error {
	if len(body) < errorFixed || len(body) > errorFixed+MaxDetailBytes {
		return ErrMalformed
	}
	e.Code = Code(le.Uint16(body))
	e.Retry = Retry(body[2])
	e.First = le.Uint64(body[3:])
	e.Next = le.Uint64(body[11:])
	e.Detail = string(body[errorFixed:])
	return nil
}
