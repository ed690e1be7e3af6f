package log

import (
	"errors"
	"fmt"
)

var (
	// ErrFull is returned by Append when there is no room: the disk is full, or a memory-only store
	// used up its budget. Nothing was appended. It heals by itself when space returns.
	ErrFull = errors.New("log: no space left")
	// ErrBusy is returned by Append when the memory budget is used up because the disk is behind.
	// Nothing was appended; the same append succeeds a little later.
	ErrBusy = errors.New("log: memory budget exhausted, the disk is behind")
	// ErrReadOnly is returned by Append after a failed write or fsync that concerned this log. Reads
	// go on. Only reopening the store makes the log writable again.
	ErrReadOnly = errors.New("log: read-only after a storage failure")
	// ErrCold is returned by Read when the offset is no longer in memory. Use ReadCold in a worker.
	ErrCold = errors.New("log: offset is not in memory")
	// ErrLocked is returned by Open when another process uses the directory.
	ErrLocked = errors.New("log: data directory is in use by another process")
	// ErrVersion is returned by Open when the directory was written by a newer version.
	ErrVersion = errors.New("log: data directory has a newer format")
	// ErrClosed is returned by every method after Close, and by those of a removed log.
	ErrClosed = errors.New("log: closed")
	// ErrTruncated is returned for an offset or index below the first one.
	ErrTruncated = errors.New("log: position is below the start of the log")
	// ErrOutOfRange is returned for an offset or index above the next one.
	ErrOutOfRange = errors.New("log: position is above the end of the log")
	// ErrPayload is returned by Append for a payload that can be no entry: shorter than its own
	// checksum, or longer than the largest frame.
	ErrPayload = errors.New("log: payload size outside the limits")
	// ErrIndex is returned by Append when an explicit index is not the next one.
	ErrIndex = errors.New("log: explicit index is not the next index")
)

// CorruptError reports stored bytes that do not match their checksum, or a file that is missing.
// The records [First, Next) are lost; reading can go on at Next.
type CorruptError struct {
	Path  string // the file, or the directory when a whole file is missing
	Pos   int64  // byte position of the damage in the file
	First uint64 // first lost offset
	Next  uint64 // first offset behind the damage
	Err   error  // what is wrong with the bytes
}

// Error describes the damage with its position.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("log: corrupt range of offsets [%d, %d) in %s at byte %d: %v",
		e.First, e.Next, e.Path, e.Pos, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
