package server

import (
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// memory is what a loop uses again. A handler may use it until it returns.
type memory struct {
	chunk    log.Chunk         // of hot reads; released before the handler returns
	gathered []byte            // entries of a lease reply; copied out before the handler returns
	iov      [maxSlices][]byte // of writeChunk
	backlog  spareBytes        // for the backlog of a session
	large    spareBytes        // for a large command of a text session
	builder  wire.BatchBuilder // for records from live messages
	scratch  scratch
}

// scratch is what the handlers of binary sessions use again.
type scratch struct {
	run      publishRun
	batch    wire.Batch
	settle   wire.Settle
	commit   wire.Commit
	ranges   []group.Settle
	leased   []group.Lease
	sent     []group.Lease // gatherer.sent
	checked  checkedEntry  // gatherer.checked
	leaseOut wire.Leased

	schedule  wire.Schedule
	scheduled []partition.ScheduleItem
	batches   []wire.Batch
}

// spareBytes is memory that a loop keeps for the next session that needs much.
type spareBytes []byte

// take returns an empty slice with room for size bytes.
func (s *spareBytes) take(size int) []byte {
	b := *s
	if cap(b) < size {
		return make([]byte, 0, size)
	}
	*s = nil
	return b[:0]
}

// keep keeps b for the next take, unless that is more than most bytes or less than is kept already.
func (s *spareBytes) keep(b []byte, most int) {
	if cap(b) <= most && cap(b) > cap(*s) {
		*s = b
	}
}
