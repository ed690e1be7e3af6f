package log

import (
	"errors"
	"fmt"
)

var (
	// ErrFull is returned by Append when the disk is full, or the budget of a memory-only store used up.
	// Nothing was appended. Appends succeed again when there is space.
	ErrFull = errors.New("log: no space left")
	// ErrBusy is returned by Append when the memory budget is used up because the disk is too slow.
	// Nothing was appended. Try again a little later.
	ErrBusy = errors.New("log: memory budget exhausted, the disk is behind")
	// ErrReadOnly is returned by Append after a write or fsync of entries of this log failed. Reads still
	// work. Only reopening the store makes the log writable again.
	ErrReadOnly = errors.New("log: read-only after a storage failure")
	// ErrCold is returned by Read when the offset is no longer in memory. Use ReadCold in a worker goroutine.
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
	// ErrPayload is returned by Append for a payload that is shorter than its checksum or longer than the
	// largest frame.
	ErrPayload = errors.New("log: payload size outside the limits")
)

// CorruptError reports stored bytes that do not match their checksum, or a missing file. The records
// [First, Next) are lost. Reading can go on at Next.
type CorruptError struct {
	Path  string // the file, or the directory when a whole file is missing
	Pos   int64  // byte position of the damage in the file
	First uint64 // first lost offset
	Next  uint64 // first offset behind the damage
	Err   error  // the kind of damage
}

// Error describes the damage with its position.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("log: corrupt range of offsets [%d, %d) in %s at byte %d: %v",
		e.First, e.Next, e.Path, e.Pos, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
