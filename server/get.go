package server

import (
	"slices"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// get answers with the latest record of a key. It runs on a worker, because the first look-up reads the whole
// partition, which it does in steps.
func (b *binary) get(f wire.Frame, _ time.Time) error {
	var m wire.Get
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	key := slices.Clone(m.Key)
	var offset uint64
	return b.workChunk(f.Op, f.Correlation,
		func(c *log.Chunk) (err error) {
			offset, err = p.Latest(c, key)
			return err
		},
		func(c *log.Chunk, _ time.Time) {
			c.Next = offset + 1
			b.sendEntries(wire.OpGet|wire.OpReply, f.Correlation, p, offset, c)
		})
}
