package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/crc32c"
)

const (
	checkpointName   = "checkpoint"
	checkpointMagic  = 0x3154504b6b6652 // "RfkKPT1"
	checkpointHeader = 72
	recordBytes      = 136
)

var errCheckpoint = errors.New("checkpoint is damaged")

// checkpoint is the root of a data directory. It says which part of every log's files is valid, and from which chunk
// on the commit log is needed. What a checkpoint covers is said to count.
type checkpoint struct {
	floor   uint64 // chunks below are not needed
	lsn     uint64 // of the next chunk
	file    uint64 // number of the next commit log file
	open    uint64 // number of a commit log file that must exist; 0 when there is none
	created int64  // in ms since 1970
	logs    []logRecord
	removed tombstones
}

// logRecord is the part of a checkpoint about one log.
type logRecord struct {
	id     wire.Identity
	first  uint64 // logical start
	prev   place  // start of the first segment
	filed  place  // end of the last segment
	active place  // base offset and index of the last segment; an index of 0 when there is none
	size   int64  // bytes of the last segment that count; 0 when it is sealed
	state  snapshot
}

// tombstones are the logs that were removed. Their chunks below an lsn do not count.
type tombstones map[wire.Identity]uint64

// append appends the encoded tombstones, in the order of their identities.
func (t tombstones) append(dst []byte) []byte {
	for _, id := range slices.SortedFunc(maps.Keys(t), compareIdentity) {
		dst = le.AppendUint64(appendIdentity(dst, id), t[id])
	}
	return dst
}

// append appends the encoded checkpoint, two identical copies one behind the other:
//
//	header (72): magic u64, version u32, crc u32, copy length u64, floor u64, next lsn u64,
//	             next file u64, created i64, logs u32, tombstones u32,
//	             open file u64
//	log (136):   topic 16, partition u32, state length u32, first u64,
//	             prev offset, index, term, time; filed offset, index, term, time: u64 each,
//	             active base offset u64, active base index u64, active size u64 (0: sealed), state index u64,
//	             0 u64, and the state's bytes, padded with zeros to a multiple of 8
//	tombstone (28): topic 16, partition u32, lsn u64
//
// crc covers the copy with zeros in its place. A copy is padded with zeros to a multiple of 8.
func (c *checkpoint) append(dst []byte) []byte {
	start := len(dst)
	dst = le.AppendUint64(dst, checkpointMagic)
	dst = le.AppendUint32(dst, formatVersion)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint64(dst, 0)
	dst = le.AppendUint64(dst, c.floor)
	dst = le.AppendUint64(dst, c.lsn)
	dst = le.AppendUint64(dst, c.file)
	dst = le.AppendUint64(dst, uint64(c.created))
	dst = le.AppendUint32(dst, uint32(len(c.logs)))
	dst = le.AppendUint32(dst, uint32(len(c.removed)))
	dst = le.AppendUint64(dst, c.open)
	for i := range c.logs {
		dst = c.logs[i].append(dst)
	}
	dst = c.removed.append(dst)
	dst = append(dst, make([]byte, align(len(dst)-start)-(len(dst)-start))...)
	le.PutUint64(dst[start+16:], uint64(len(dst)-start))
	le.PutUint32(dst[start+12:], crc32c.Checksum(dst[start:]))
	return append(dst, dst[start:]...)
}

func (r *logRecord) append(dst []byte) []byte {
	dst = appendIdentity(dst, r.id)
	dst = le.AppendUint32(dst, uint32(len(r.state.blob)))
	dst = le.AppendUint64(dst, r.first)
	dst = appendPlace(dst, r.prev)
	dst = appendPlace(dst, r.filed)
	dst = le.AppendUint64(dst, r.active.offset)
	dst = le.AppendUint64(dst, r.active.index)
	dst = le.AppendUint64(dst, uint64(r.size))
	dst = le.AppendUint64(dst, r.state.index)
	dst = le.AppendUint64(dst, 0)
	dst = append(dst, r.state.blob...)
	return append(dst, make([]byte, align(len(r.state.blob))-len(r.state.blob))...)
}

func appendPlace(dst []byte, p place) []byte {
	dst = le.AppendUint64(dst, p.offset)
	dst = le.AppendUint64(dst, p.index)
	dst = le.AppendUint64(dst, p.term)
	return le.AppendUint64(dst, uint64(p.time))
}

func parsePlace(b []byte) place {
	return place{
		offset: le.Uint64(b), index: le.Uint64(b[8:]), term: le.Uint64(b[16:]),
		time: int64(le.Uint64(b[24:])),
	}
}

// parse sets c from the first intact copy in the bytes of a checkpoint file. It keeps views of b. damaged says that
// the copies differ. The error is errCheckpoint when neither copy is intact, and ErrVersion for a newer format.
func (c *checkpoint) parse(b []byte) (damaged bool, err error) {
	half := len(b) / 2
	first := c.parseCopy(b[:half])
	if first == nil || errors.Is(first, ErrVersion) {
		return first == nil && string(b[:half]) != string(b[half:]), first
	}
	return true, c.parseCopy(b[half:])
}

func (c *checkpoint) parseCopy(b []byte) error {
	if len(b) < checkpointHeader || le.Uint64(b) != checkpointMagic ||
		le.Uint64(b[16:]) != uint64(len(b)) || !checksumAt(b, 12) {
		return errCheckpoint
	}
	if le.Uint32(b[8:]) != formatVersion {
		return ErrVersion
	}
	*c = checkpoint{
		floor: le.Uint64(b[24:]), lsn: le.Uint64(b[32:]), file: le.Uint64(b[40:]),
		created: int64(le.Uint64(b[48:])), open: le.Uint64(b[64:]), removed: tombstones{},
	}
	logs, removed := le.Uint32(b[56:]), le.Uint32(b[60:])
	b = b[checkpointHeader:]
	for range logs {
		var r logRecord
		var ok bool
		if b, ok = r.parse(b); !ok {
			return errCheckpoint
		}
		c.logs = append(c.logs, r)
	}
	for range removed {
		if len(b) < 28 {
			return errCheckpoint
		}
		id := parseIdentity(b)
		c.removed[id] = max(c.removed[id], le.Uint64(b[20:]))
		b = b[28:]
	}
	return nil
}

func (r *logRecord) parse(b []byte) (rest []byte, ok bool) {
	if len(b) < recordBytes {
		return nil, false
	}
	n := int(le.Uint32(b[20:]))
	*r = logRecord{
		id: parseIdentity(b), first: le.Uint64(b[24:]), prev: parsePlace(b[32:]), filed: parsePlace(b[64:]),
		active: place{offset: le.Uint64(b[96:]), index: le.Uint64(b[104:])}, size: int64(le.Uint64(b[112:])),
		state: snapshot{index: le.Uint64(b[120:])},
	}
	b = b[recordBytes:]
	if n > maxStateBytes || len(b) < align(n) {
		return nil, false
	}
	r.state.blob = b[:n:n]
	return b[align(n):], r.size >= 0 && r.prev.index >= firstIndex && r.filed.index >= r.prev.index
}

// errUncertain is the error of a checkpoint that a restart may or may not find.
var errUncertain = errors.New("checkpoint may or may not be durable")

// write replaces the checkpoint file, and returns its size. After an error the old one is still valid; after
// errUncertain a restart may find either.
func (c *checkpoint) write(f FS, dir string) (size int64, err error) {
	name, b := path.Join(dir, checkpointName), c.append(nil)
	if err := writeFile(f, name+tempExt, b); err != nil {
		return 0, fmt.Errorf("write checkpoint: %w", err)
	}
	if err := f.Rename(name+tempExt, name); err != nil {
		return 0, fmt.Errorf("replace checkpoint: %w", err)
	}
	if err := f.SyncDir(dir); err != nil {
		return 0, fmt.Errorf("%w: %w", errUncertain, err)
	}
	return int64(len(b)), nil
}

// writeFile creates a file and makes its content durable. Its name is durable after SyncDir.
func writeFile(f FS, name string, b []byte) error {
	file, err := f.Open(name, true, true)
	if err != nil {
		return err
	}
	if err = file.Truncate(0); err == nil {
		if err = writeFull(file, b, 0); err == nil {
			err = file.Sync()
		}
	}
	return errors.Join(err, file.Close())
}

// readCheckpoint reads the checkpoint of a directory; see checkpoint.parse. When there is none, the error is
// fs.ErrNotExist.
func readCheckpoint(f FS, dir string) (c checkpoint, damaged bool, err error) {
	b, err := readFile(f, path.Join(dir, checkpointName))
	if err != nil {
		return checkpoint{}, false, err
	}
	damaged, err = c.parse(b)
	return c, damaged, err
}

func readFile(f FS, name string) ([]byte, error) {
	return readReaching(f, name, func(_ File, size int64) (int64, error) { return size, nil })
}

// readReaching reads the first bytes of a file: as many as reach returns for the file and its size.
func readReaching(f FS, name string, reach func(file File, size int64) (int64, error)) ([]byte, error) {
	file, err := f.Open(name, false, false)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size, err = reach(file, size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if err = readFull(file, b, 0); errors.Is(err, io.EOF) { // which does not name the file
		err = fmt.Errorf("%s became shorter while it was read: %w", name, err)
	}
	return b, err
}

// missing reports whether an error means that there is no such file.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
