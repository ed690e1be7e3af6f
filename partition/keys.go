package partition

import (
	"errors"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
	"github.com/rafka-mq/rafka/wire/keyhash"
)

// A queue with order by key needs the keys of messages before it can lease them. Lease reads them from the log when
// they are in memory and not compressed; LearnKeys reads the others.

// ErrKeys is returned by Lease for a queue with order by key when LearnKeys has to be called first: the next keys are
// on the disk only or compressed, or this call has looked at too many.
var ErrKeys = errors.New("partition: keys have to be read first")

const (
	// keyBytes is how much readKeys reads at once.
	keyBytes = 256 << 10
	// keysOpened is how much readKeys decompresses at once: a little may unpack to much.
	keysOpened = 16 << 20
	// maxLook bounds the messages whose keys one call of Lease looks at, to about a millisecond.
	maxLook = 16 << 10
)

// leaseOrderedLocked is Lease for a queue with order by key: it leases, with take, and learns keys in turns.
func (p *Partition) leaseOrderedLocked(
	dst []group.Lease, q *group.Queue, limit int, visible uint64, take takeFunc,
) ([]group.Lease, error) {
	had := len(dst)
	for looked := 0; ; looked += len(p.keys) {
		dst = take(dst, limit-leased(dst[had:]))
		from, wants := q.WantsKeys(visible)
		switch {
		case !wants, leased(dst[had:]) >= limit:
			return dst, nil
		case looked >= maxLook:
			return leasesOr(dst, had, ErrKeys)
		}
		var err error
		if p.keys, err = p.readKeys(p.keys[:0], from, p.read, false); err != nil {
			return leasesOr(dst, had, err)
		}
		q.LearnKeys(from, p.keys)
	}
}

// leasesOr returns dst when it has more than had leases, and otherwise the error.
func leasesOr(dst []group.Lease, had int, err error) ([]group.Lease, error) {
	if len(dst) > had {
		return dst, nil
	}
	return dst, err
}

// leased returns how many messages the leases have.
func leased(leases []group.Lease) (n int) {
	for _, l := range leases {
		n += int(l.Count)
	}
	return n
}

// LearnKeys reads the next keys that the queue needs, from the disk and out of compressed batches if necessary. It
// may wait for the disk, so it must not be called on an event loop. It returns nil when the queue needs no keys or
// no longer exists.
func (p *Partition) LearnKeys(name string) error {
	visible := p.Visible()
	from, ok := p.wantsKeys(name, visible)
	if !ok {
		return nil
	}
	keys, err := p.readKeys(nil, from, p.readCold, true)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(name)
	if q == nil {
		return nil
	}
	if at, ok := q.WantsKeys(visible); ok && at == from { // nobody else has learned them meanwhile
		q.LearnKeys(from, keys)
		q.WantsKeys(visible)
	}
	return nil
}

// wantsKeys returns the offset from which on the queue needs keys, and false when it needs none.
func (p *Partition) wantsKeys(name string, visible uint64) (from uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(name)
	if q == nil {
		return 0, false
	}
	return q.WantsKeys(visible)
}

// readFunc is read or readCold of a partition.
type readFunc func(c *log.Chunk, offset uint64, maxBytes int) error

// readKeys appends a hash of the key of every record from an offset on: at least one, and whole entries. Records that
// are damaged or removed count as records without a key; a worker that leases them finds out. With blocking, readKeys
// opens compressed and large batches. Without, it stops in front of such a batch, with ErrKeys when that is the first.
func (p *Partition) readKeys(dst []uint64, from uint64, read readFunc, blocking bool) ([]uint64, error) {
	var c log.Chunk
	defer c.Release()
	err := read(&c, from, keyBytes)
	var refused *wire.Error
	switch {
	case errors.Is(err, log.ErrCold):
		return dst, ErrKeys
	case errors.As(err, &refused) && refused.Code == wire.CodeCorruptRange:
		return append(dst, make([]uint64, min(maxLook, refused.Next-from))...), nil
	case errors.As(err, &refused) && refused.Code == wire.CodeOffsetOutOfRange && refused.First > from:
		return append(dst, make([]uint64, min(maxLook, refused.First-from))...), nil
	case err != nil:
		return dst, err
	}
	at, opened := from, 0
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return dst, wire.Errorf(wire.CodeInternal, "read %s: %v", p, err)
			}
			if !blocking && heavy(&e) {
				if at == from {
					return dst, ErrKeys
				}
				return dst, nil
			}
			if e.BaseOffset > at+maxLook {
				return appendGap(dst, at, at+maxLook), nil
			}
			dst = appendGap(dst, at, e.BaseOffset)
			dst = appendKeys(dst, &e, max(at, e.BaseOffset))
			at, b = e.NextOffset(), rest
			if opened += unpackedBytes(&e); opened >= keysOpened {
				return dst, nil
			}
		}
	}
	dst = appendGap(dst, at, min(c.Next, at+maxLook))
	at = max(at, c.Next)
	if at == from {
		return dst, wire.Errorf(wire.CodeInternal, "nothing of %s can be read at offset %d", p, from)
	}
	return dst, nil
}

// appendGap appends the hashes of the offsets [from, to), which have no record to deliver: compaction removed it, or
// its time to live is over. They count as records without a key.
func appendGap(dst []uint64, from, to uint64) []uint64 {
	if from >= to {
		return dst
	}
	return append(dst, make([]uint64, to-from)...)
}

// heavy reports whether reading the keys of the entry takes long.
func heavy(e *wire.Entry) bool {
	batch, err := wire.ViewBatch(e.Payload)
	return err == nil && (batch.Codec() != wire.CodecNone || batch.Count() > maxLook)
}

// unpackedBytes returns how much the entry's batch says it unpacks to.
func unpackedBytes(e *wire.Entry) int {
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return 0
	}
	_, n := batch.Packed()
	return n
}

// appendKeys appends a hash for each of the entry's records from an offset on. Records of a damaged batch count as
// records without a key.
func appendKeys(dst []uint64, e *wire.Entry, from uint64) []uint64 {
	want := len(dst) + int(e.NextOffset()-max(from, e.BaseOffset))
	batch, err := wire.ViewBatch(e.Payload)
	if err == nil {
		batch, err = codec.Unpack(batch, nil)
	}
	if err == nil {
		at := e.BaseOffset
		for rec, err := range batch.Records() {
			if err != nil || len(dst) == want {
				break
			}
			if at >= from {
				dst = append(dst, keyhash.Sum(rec.Key))
			}
			at++
		}
	}
	for len(dst) < want { // damaged, which readers of the batch are told
		dst = append(dst, 0)
	}
	return dst
}
