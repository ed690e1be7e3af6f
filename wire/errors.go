package wire

import "errors"

// Errors of decoding.
var (
	// ErrMalformed is returned by every Parse of a frame body that is cut short, too long, or holds
	// a value that is not allowed.
	ErrMalformed = errors.New("wire: malformed frame")
	// ErrFrameTooLarge is returned by NextFrame for a length over the limit.
	ErrFrameTooLarge = errors.New("wire: frame over the size limit")
	// ErrBatch is returned for a batch whose structure is wrong.
	ErrBatch = errors.New("wire: malformed batch")
	// ErrBatchChecksum is returned for a batch that does not match its checksum.
	ErrBatchChecksum = errors.New("wire: batch checksum mismatch")
	// ErrRecordTooLarge is returned by Validate for a record over the topic's limit.
	ErrRecordTooLarge = errors.New("wire: record over the size limit")
	// ErrEnd is returned by ParseEntry and ViewEntry where no entry was written.
	ErrEnd = errors.New("wire: end of entries")
	// ErrShort is returned by ParseEntry and ViewEntry for an entry that is cut.
	ErrShort = errors.New("wire: entry cut short")
	// ErrEntry is returned by ParseEntry and ViewEntry for an entry that is damaged, and by ParseEntry for
	// one of another partition.
	ErrEntry = errors.New("wire: damaged entry")
)
