package log

import (
	"errors"
	"log/slog"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// The defaults of Options and Config, with their reasons.
const (
	defaultSegmentBytes = 64 << 20 // retention works in steps of this; sealing one costs two fsyncs
	defaultCommitFile   = 64 << 20 // the unit that is recycled
	defaultCommitFiles  = 4        // a restart replays 256 MiB in about half a second
	defaultCheckpoint   = 5 * time.Second
	defaultRetention    = time.Second
	defaultCompaction   = time.Second
	defaultTombstoneAge = 24 * time.Hour // a reader that was away for less time sees every deletion
	defaultSegmentAge   = time.Hour
	leastDefaultMemory  = 16 << 20 // has room for an entry of the largest frame
	maxDefaultMemory    = 1 << 30

	// diskShare limits the default size of a commit log file: a disk has room for at least this many of them.
	// Four files with chunks, four spares and the reserve leave two thirds of the disk to the data.
	diskShare        = 32
	leastDefaultFile = 1 << 20

	minSegmentBytes    = 4 << 10
	minCommitFileBytes = 16 << 10
	minMemoryBytes     = 1 << 20
)

// Options configures a Store. The zero value of a field means its default. Open copies them.
type Options struct {
	// Dir is the data directory, which Open creates when it is missing. Empty means memory only.
	Dir string
	// FS is the file system; nil means the operating system's.
	FS FS
	// Now is the clock for retention by age; nil means time.Now.
	Now func() time.Time
	// Logger receives lifecycle events and damage; nil means silence.
	Logger *slog.Logger
	// MemoryBytes bounds all slabs together. Default: a quarter of the memory of the machine, or of the
	// container's limit, but 16 MiB to 1 GiB. At least 1 MiB; an entry of the largest frame needs 9 MiB.
	MemoryBytes int64
	// SegmentBytes is the size at which a segment file is sealed. Default 64 MiB, at least 4 KiB.
	SegmentBytes int64
	// CommitLogBytes is the size of the commit log at which a checkpoint starts. Default: four times the default
	// of CommitFileBytes, 256 MiB.
	CommitLogBytes int64
	// CommitFileBytes is the size of one commit log file. Default: 64 MiB, or less on a disk of less than 2 GiB,
	// but 1 MiB. At least 16 KiB.
	CommitFileBytes int64
	// CheckpointInterval is how long entries for which nobody called Flush stay in memory only. Default 5 s.
	CheckpointInterval time.Duration
	// RetentionInterval is how often retention is enforced, on idle logs too. Default 1 s.
	RetentionInterval time.Duration
	// CompactionInterval is how often the store checks whether a log with Config.Compact is worth a pass. Default
	// 1 s.
	CompactionInterval time.Duration
	// RefuseState and RefuseEntry return why the owners of the logs cannot go on with what is stored, or nil: Open asks
	// before it changes a file, and ends with the error. They are asked about the state of every log in the checkpoint, and
	// about every entry without records that is read from the commit log. nil refuses nothing.
	RefuseState func(id wire.Identity, state []byte) error
	RefuseEntry func(id wire.Identity, e wire.Entry) error
	// Poison overwrites memory before it is recycled, so that tests notice a use after release.
	Poison bool

	timers    timers                                        // shorter in tests
	fileLimit int64                                         // see fileSizeLimit
	clock     func() (wall time.Time, passed time.Duration) // of the dueClock, in tests
}

// timers are delays of the background goroutines that users do not need to set.
type timers struct {
	mark  time.Duration // how long the flusher is idle before it writes a mark
	space time.Duration // how often a full disk is tried again; writing resumes within 5 s after there is space
}

// DefaultMemoryBytes returns the default of Options.MemoryBytes on this machine.
func DefaultMemoryBytes() int64 {
	return max(leastDefaultMemory, min(maxDefaultMemory, AvailableMemory()/4))
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = DefaultMemoryBytes()
	}
	orDefault(&o.SegmentBytes, defaultSegmentBytes)
	orDefault(&o.CheckpointInterval, defaultCheckpoint)
	orDefault(&o.RetentionInterval, defaultRetention)
	orDefault(&o.CompactionInterval, defaultCompaction)
	if o.RefuseState == nil {
		o.RefuseState = func(wire.Identity, []byte) error { return nil }
	}
	if o.RefuseEntry == nil {
		o.RefuseEntry = func(wire.Identity, wire.Entry) error { return nil }
	}
	o.timers.setDefaults()
	orDefault(&o.fileLimit, fileSizeLimit())
}

// fitDisk sets the defaults of the commit log's sizes, which depend on the size of the disk.
func (o *Options) fitDisk() error {
	size := int64(defaultCommitFile)
	total, _, err := o.FS.Space(o.Dir)
	if err != nil {
		return err
	}
	if total > 0 { // some file systems report no size
		size = max(leastDefaultFile, min(size, total/diskShare&^(1<<20-1)))
	}
	orDefault(&o.CommitFileBytes, size)
	orDefault(&o.CommitLogBytes, defaultCommitFiles*size)
	return nil
}

func (t *timers) setDefaults() {
	orDefault(&t.mark, 100*time.Millisecond)
	orDefault(&t.space, 500*time.Millisecond)
}

func orDefault[T int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o *Options) validate() error {
	switch {
	case o.MemoryBytes < minMemoryBytes:
		return errors.New("log: MemoryBytes is below 1 MiB")
	case o.SegmentBytes < minSegmentBytes || o.SegmentBytes > 1<<30:
		return errors.New("log: SegmentBytes is outside 4 KiB to 1 GiB")
	case o.CommitFileBytes != 0 && (o.CommitFileBytes < minCommitFileBytes || o.CommitFileBytes > 1<<30):
		return errors.New("log: CommitFileBytes is outside 16 KiB to 1 GiB")
	case o.CommitLogBytes < 0 || o.CheckpointInterval < 0 || o.RetentionInterval < 0 || o.CompactionInterval < 0:
		return errors.New("log: negative option")
	}
	return nil
}

// Retention says which of the oldest entries of a log may be dropped. Only whole segments are dropped (whole slabs in a
// memory-only store), so a log keeps at least what the limits say, and at most one segment more. Zero means no limit.
type Retention struct {
	Age   time.Duration // since the append
	Bytes int64         // of all entries
	Count int64         // of records
}

// Config configures a Log. Zero fields mean the defaults.
type Config struct {
	// Retention limits how much is kept.
	Retention Retention
	// SegmentBytes overrides Options.SegmentBytes. Segments are smaller when the process may not write such files.
	SegmentBytes int64
	// SegmentAge bounds the range of append times in one segment, so that retention by age can drop segments
	// in time. Default 1 h, or a quarter of Retention.Age when that is less.
	SegmentAge time.Duration
	// Compact keeps the latest record of every key in sealed segments, and records without a key. It
	// does nothing in a memory-only store.
	Compact bool
	// TombstoneAge is how long compaction keeps a tombstone, which is a record without a value that deletes
	// its key, so that readers see it. Default 24 h after the append.
	TombstoneAge time.Duration
	// Notify is called after Written or Durable has advanced. It is called with the error of a storage
	// failure: then the outcome of entries that are not Durable is unknown. It is called without locks and
	// must not block. Calls can overlap, so positions can arrive out of order: the highest are valid.
	Notify func(p Positions, err error)
	// State returns the owner's encoded state and the index of the last entry in it. Checkpoints call it
	// without locks, and never before Replay has returned or the first append. The owner should take the
	// lock that it holds around Append. The store keeps the blob, so the owner must not modify it.
	State func() (blob []byte, index uint64)
}

func (c *Config) setDefaults(o *Options) {
	orDefault(&c.SegmentBytes, o.SegmentBytes)
	c.SegmentBytes = min(c.SegmentBytes, o.segmentLimit())
	orDefault(&c.TombstoneAge, defaultTombstoneAge)
	if b := c.Retention.Bytes; b > 0 {
		c.SegmentBytes = min(c.SegmentBytes, max(b/4, minSegmentBytes))
	}
	orDefault(&c.SegmentAge, defaultSegmentAge)
	if a := c.Retention.Age; a > 0 {
		c.SegmentAge = min(c.SegmentAge, max(a/4, time.Second))
	}
}
