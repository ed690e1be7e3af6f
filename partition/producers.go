package partition

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// An idempotent producer numbers the records it sends to a partition. The partition remembers the producer's last
// batches, so that a batch that is sent again because its reply was lost is not stored again. After a restart this
// memory is rebuilt from the log.

const (
	// rememberedRuns is how many batches of a producer are remembered: more than a client has in flight.
	rememberedRuns = 8
	// maxProducers is how many producers a partition remembers. Beyond it, those that were silent longest are forgotten.
	maxProducers = 4096
)

// producers is what a partition knows about idempotent producers.
type producers struct {
	mu   sync.Mutex // guards the fields below; held from the check of a batch until it is noted
	byID map[uint64]*producer
	turn uint64 // counts batches, to tell who was silent longest
	ids  ids    // message ids within the topic's dedupe window
}

// producer is one idempotent producer.
type producer struct {
	epoch uint64
	next  uint64 // sequence number that its next record must have
	used  uint64 // turn of its last batch
	runs  []run  // its last batches, newest last
}

// run is one stored batch.
type run struct {
	first, count uint64 // its sequence numbers: [first, first+count)
	base, index  uint64 // offset of its first record, index of its entry
}

// check decides about a batch of count records: with nil, nil it is new and to be stored; otherwise stored is the run
// that it is a copy of. The error is a *wire.Error. The caller holds mu.
func (ps *producers) check(pr wire.Producer, count uint32) (stored *run, err error) {
	p := ps.byID[pr.ID]
	switch {
	case p == nil || pr.Epoch > p.epoch:
		return nil, nil
	case pr.Epoch < p.epoch:
		return nil, wire.Errorf(wire.CodeFenced, "producer %x has epoch %d, a newer one has taken over", pr.ID, p.epoch)
	case pr.Sequence == p.next:
		return nil, nil
	case pr.Sequence > p.next:
		return nil, wire.Errorf(wire.CodeOutOfSequence, "producer %x sent record %d, expected is %d", pr.ID, pr.Sequence, p.next)
	}
	for i := range p.runs {
		if r := &p.runs[i]; r.first == pr.Sequence && r.count == uint64(count) {
			return r, nil
		}
	}
	return nil, wire.Errorf(wire.CodeInvalid,
		"producer %x sent record %d before, in a batch that is not remembered", pr.ID, pr.Sequence)
}

// note remembers a stored batch. The caller holds mu.
func (ps *producers) note(pr wire.Producer, count uint32, base, index uint64) {
	p := ps.byID[pr.ID]
	if p == nil {
		p = ps.add(pr.ID)
	}
	if pr.Epoch != p.epoch {
		p.epoch, p.runs = pr.Epoch, p.runs[:0]
	}
	ps.turn++
	p.next, p.used = pr.Sequence+uint64(count), ps.turn
	if len(p.runs) == rememberedRuns {
		copy(p.runs, p.runs[1:])
		p.runs = p.runs[:rememberedRuns-1]
	}
	p.runs = append(p.runs, run{pr.Sequence, uint64(count), base, index})
}

// add makes a producer, and room for it when there are too many.
func (ps *producers) add(id uint64) *producer {
	if ps.byID == nil {
		ps.byID = map[uint64]*producer{}
	}
	if len(ps.byID) >= maxProducers {
		ps.forget(maxProducers / 8)
	}
	p := new(producer)
	ps.byID[id] = p
	return p
}

// forget drops the n producers that were silent longest, but never the scheduler.
func (ps *producers) forget(n int) {
	used := make([]uint64, 0, len(ps.byID))
	for _, p := range ps.byID {
		used = append(used, p.used)
	}
	slices.Sort(used)
	for id, p := range ps.byID {
		if p.used <= used[n-1] && id != SchedulerID {
			delete(ps.byID, id)
		}
	}
}

// Numbers are used, too, by a message that is not stored: because its id is known, or because a scheduled one is refused
// for good. The log says so in a state entry:
//
//	"RP" | uvarint version 1, producer id, epoch, sequence number, count of numbers, offset in the reply
//
// Without it a restart would take the numbers for missing, and publish a scheduled message again.

const usedVersion = 1

var errUsed = errors.New("partition: damaged entry of used numbers")

// isUsed tells used numbers from the commands of consumers, which never begin with the mark.
func isUsed(entry []byte) bool { return bytes.HasPrefix(entry, []byte(envelopeMark)) }

func appendUsed(dst []byte, pr wire.Producer, count uint32, base uint64) []byte {
	return appendUvarints(append(dst, envelopeMark...), usedVersion, pr.ID, pr.Epoch, pr.Sequence, uint64(count), base)
}

// openUsed returns a reader of what follows the version of used numbers.
func openUsed(entry []byte) (uvarints, error) {
	r := uvarints{b: entry[len(envelopeMark):]}
	switch version := r.next(); {
	case version > usedVersion:
		return r, fmt.Errorf("%w: format %d of used numbers, not %d", group.ErrVersion, version, usedVersion)
	case version == 0:
		return r, errUsed
	}
	return r, nil
}

// noteUsed notes the numbers in a state entry at index.
func (ps *producers) noteUsed(entry []byte, index uint64) error {
	r, err := openUsed(entry)
	if err != nil {
		return err
	}
	pr := wire.Producer{ID: r.next(), Epoch: r.next(), Sequence: r.next()}
	count, base := r.next(), r.next()
	if r.bad || len(r.b) > 0 || count > math.MaxUint32 {
		return errUsed
	}
	ps.note(pr, uint32(count), base, index)
	return nil
}

// use logs and notes that the numbers of a batch are used although it is not stored. It returns the index of the entry.
// base is the offset that the batch is answered with. The caller holds producers.mu.
func (p *Partition) use(pr wire.Producer, count uint32, base uint64, nowMs int64) (index uint64, err error) {
	_, index, err = p.log.Append(log.Batch{
		Kind: wire.KindState, Term: term, Time: nowMs, Payload: wire.AppendPayload(nil, appendUsed(nil, pr, count, base)),
	})
	if err != nil {
		return 0, p.appendError(err)
	}
	p.producers.note(pr, count, base, index)
	return index, nil
}

// The snapshot of a partition is an envelope with the snapshot of its consumers:
//
//	"RP" | version 2 | uvarint size, consumers | uvarint count of producers, each:
//	    uvarint id, epoch, next, count of runs, each: uvarint first, count, base, index
//	| message ids, as appendIDs writes them | 1 when some record has a time to live, else 0
//
// Version 1 ends behind the producers. Before that, a snapshot was that of the consumers alone, which never begins
// with "RP". Producers are in the order of their last batches.

const (
	envelopeMark    = "RP"
	envelopeVersion = 2
)

// appendSnapshot appends the envelope up to the message ids. appendIDs and appendExpiring append the rest. The caller
// holds mu.
func (ps *producers) appendSnapshot(dst, consumers []byte) []byte {
	dst = append(append(dst, envelopeMark...), envelopeVersion)
	dst = binary.AppendUvarint(dst, uint64(len(consumers)))
	return ps.append(append(dst, consumers...))
}

// byUse returns the ids of the producers in the order of their last batches, oldest first.
func (ps *producers) byUse() []uint64 {
	ids := make([]uint64, 0, len(ps.byID))
	for id := range ps.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(ps.byID[a].used, ps.byID[b].used) })
	return ids
}

// append appends every producer, in the order of their last batches.
func (ps *producers) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ps.byID)))
	for _, id := range ps.byUse() {
		p := ps.byID[id]
		dst = appendUvarints(dst, id, p.epoch, p.next, uint64(len(p.runs)))
		for _, r := range p.runs {
			dst = appendUvarints(dst, r.first, r.count, r.base, r.index)
		}
	}
	return dst
}

// restore reads what append wrote. Damage is left in r.bad.
func (ps *producers) restore(r *uvarints) {
	for n := r.next(); n > 0 && !r.bad; n-- {
		id, p := r.next(), &producer{epoch: r.next(), next: r.next()}
		for runs := min(r.next(), rememberedRuns); runs > 0; runs-- {
			p.runs = append(p.runs, run{r.next(), r.next(), r.next(), r.next()})
		}
		ps.turn++
		p.used = ps.turn
		*ps.add(id) = *p
	}
}

func appendExpiring(dst []byte, expiring bool) []byte {
	if expiring {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// openEnvelope returns the consumers' part of a snapshot, a view of blob, and a reader of what follows. version is that of
// the envelope, or 0 when there is none.
func openEnvelope(blob []byte) (consumers []byte, version byte, rest uvarints, err error) {
	if len(blob) < 3 || string(blob[:2]) != envelopeMark {
		return blob, 0, uvarints{}, nil
	}
	if version = blob[2]; version > envelopeVersion {
		return nil, 0, uvarints{}, fmt.Errorf("%w: format %d of producers, not %d", group.ErrVersion, version, envelopeVersion)
	}
	rest = uvarints{b: blob[3:]}
	return rest.bytes(rest.next()), version, rest, nil
}

// splitSnapshot restores the producers and message ids from a snapshot. It returns the consumers' part, a view of
// blob, and whether some record has a time to live.
func (ps *producers) splitSnapshot(blob []byte) (consumers []byte, expiring bool, err error) {
	consumers, version, r, err := openEnvelope(blob)
	if err != nil || version == 0 {
		return consumers, false, err
	}
	ps.restore(&r)
	if version > 1 {
		ps.ids.restore(&r)
		expiring = r.next() != 0
	}
	if r.bad || len(r.b) > 0 {
		return nil, false, wire.Errorf(wire.CodeInternal, "the snapshot is malformed")
	}
	return consumers, expiring, nil
}
