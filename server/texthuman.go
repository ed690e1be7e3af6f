package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

func (t *text) human(verb string, args []byte, now time.Time) {
	t.malformed(errUnknown)
}

func (t *text) failError(e *wire.Error) { t.fail(e.Error()) }

// textLease names a message that a text session works on.
type textLease struct {
	p      *partition.Partition
	group  string
	offset uint64
}
