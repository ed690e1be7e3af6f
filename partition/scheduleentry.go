package partition

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/rafka-mq/rafka/wire"
)

// The companion log of a partition has these kinds of entries. A body begins with its kind:
//
//	1  scheduled: uvarint id, uvarint due, string cron, string zone, batch.
//	   A data entry with one record. Id 0 marks a new message, whose id is its offset plus one. Any other id
//	   marks a copy of an older entry, which it replaces.
//	2  fired: uvarint sequence number of the first record, uvarint count, then for each batch a varint distance
//	   to the id before, uvarint records, uvarint next due time, 0 when there is none. A state entry.
//	3  cancelled: uvarint count, then for each message a varint distance to the id before. A state entry.
//	4  run: uvarint count, then for each batch a varint distance to the due time before, uvarint length, batch.
//	   A data entry with count records, each a scheduled batch whose id is its offset plus one.
//	5  numbered: uvarint producer id (0: none), epoch and sequence number of the first message of a request,
//	   uvarint number of its messages in earlier entries, uvarint number of all its messages; then a body of
//	   kind 1, 4 or 7.
//	6  producers: the producers that number requests, as in the snapshot of a partition. A state entry.
//	7  group: uvarint id, uvarint due, uncompressed batch. A data entry with as many records as the batch, each
//	   a scheduled message. The id is that of the first one, with the meaning of kind 1.
//
// Times are in milliseconds since 1970. A string is a uvarint length and its bytes.
const (
	entryScheduled = 1
	entryFired     = 2
	entryCancelled = 3
	entryRun       = 4
	entryNumbered  = 5
	entryProducers = 6
	entryGroup     = 7
)

var errScheduleEntry = errors.New("partition: damaged entry of scheduled messages")

// scheduledEntry is a scheduled batch with its time.
type scheduledEntry struct {
	id    uint64 // of its first message
	count uint64 // of messages: every record of a group is one; a batch of another kind is one
	due   int64
	cron  []byte
	zone  []byte
	batch []byte
}

// appendHead appends the part of the body in front of the batch.
func (e *scheduledEntry) appendHead(dst []byte) []byte {
	if e.count > 1 {
		return appendUvarints(append(dst, entryGroup), e.id, uint64(e.due))
	}
	dst = appendUvarints(append(dst, entryScheduled), e.id, uint64(e.due))
	for _, s := range [][]byte{e.cron, e.zone} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst
}

// parse sets e from the body of an entry at offset with count records. The fields of e are views of b.
func (e *scheduledEntry) parse(b []byte, offset uint64, count uint32) error {
	if len(b) == 0 || b[0] != entryScheduled && b[0] != entryGroup {
		return errScheduleEntry
	}
	r := uvarints{b: b[1:]}
	*e = scheduledEntry{id: r.next(), count: uint64(count)}
	due := r.next()
	if b[0] == entryScheduled {
		r.bad = r.bad || count != 1
		e.cron = r.bytes(r.next())
		e.zone = r.bytes(r.next())
	} else if batch, err := wire.ViewBatch(r.b); err != nil || batch.Count() != count || batch.Codec() != wire.CodecNone {
		return errScheduleEntry
	}
	if r.bad || due > math.MaxInt64 || len(e.cron) > wire.MaxCronBytes || len(e.zone) > wire.MaxCronBytes {
		return errScheduleEntry
	}
	e.due, e.batch = int64(due), r.b
	if e.id == 0 {
		e.id = offset + 1
	}
	return nil
}

// firing is one batch of a fired entry.
type firing struct {
	id      uint64 // of its first message
	records uint64 // for a group also the number of messages
	next    int64  // when it is due again, 0 for never
}

func appendFired(dst []byte, sequence uint64, list []firing) []byte {
	dst = append(dst, entryFired)
	dst = appendUvarints(dst, sequence, uint64(len(list)))
	prev := uint64(0)
	for _, f := range list {
		dst = binary.AppendVarint(dst, int64(f.id-prev))
		dst = appendUvarints(dst, f.records, uint64(f.next))
		prev = f.id
	}
	return dst
}

func parseFired(b []byte) (sequence uint64, list []firing, err error) {
	r := uvarints{b: b[1:]}
	sequence = r.next()
	prev := uint64(0)
	for n := r.next(); n > 0 && !r.bad; n-- {
		prev += uint64(r.signed())
		f := firing{id: prev, records: r.next()}
		next := r.next()
		if next > math.MaxInt64 {
			r.bad = true
		}
		f.next = int64(next)
		list = append(list, f)
	}
	if r.bad || len(r.b) > 0 {
		return 0, nil, errScheduleEntry
	}
	return sequence, list, nil
}

func appendCancelled(dst []byte, ids []uint64) []byte {
	dst = binary.AppendUvarint(append(dst, entryCancelled), uint64(len(ids)))
	prev := uint64(0)
	for _, id := range ids {
		dst = binary.AppendVarint(dst, int64(id-prev))
		prev = id
	}
	return dst
}

func parseCancelled(b []byte) (ids []uint64, err error) {
	r := uvarints{b: b[1:]}
	prev := uint64(0)
	for n := r.next(); n > 0 && !r.bad; n-- {
		prev += uint64(r.signed())
		ids = append(ids, prev)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errScheduleEntry
	}
	return ids, nil
}
