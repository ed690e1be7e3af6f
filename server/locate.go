package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// offsets answers which offset a position stands for.
func (b *binary) offsets(f wire.Frame, _ time.Time) error {
	var m wire.Offsets
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	return b.locate(p, m.From, m.Group, f.Op, f.Correlation, func(offset uint64, _ time.Time) error {
		reply := wire.OffsetsReply{Offset: offset, First: p.First(), Visible: p.Visible()}
		b.replyTo(wire.OpOffsets, f.Correlation, 0, reply.Append)
		return nil
	})
}

// locate finds the offset of a position with a worker, because it may read the disk.
func (b *binary) locate(p *partition.Partition, pos wire.Position, groupName string, op wire.Op, correlation uint32,
	then func(offset uint64, now time.Time) error,
) error {
	return b.work(op, correlation, func() (func(now time.Time) error, error) {
		offset, err := p.Locate(pos, groupName)
		return func(now time.Time) error { return then(offset, now) }, err
	})
}
