package client

import (
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/keyhash"
)

// keylessRun is how many messages of a batch go to one partition before messages without a key move
// on to the next. A batch stays open while an answer travels, so without this limit a file of a few
// hundred lines would end up in one partition.
const keylessRun = 64

// place chooses the lane of a message: that of the pinned partition; that of its key or, without one,
// of its ID, by the topic's hash; or the one whose batch is being filled, so that messages without a
// key travel in few batches. A partition knows only the IDs of its own messages.
func (t *topic) place(m *Message) (*lane, error) {
	lanes := *t.lanes.Load()
	switch {
	case m.Pinned:
		if m.Partition < 0 || m.Partition >= len(lanes) {
			we := wire.Errorf(wire.CodePartitionNotFound, "the number of partitions is %d", len(lanes))
			return nil, explain(we, wire.OpPublish, t.name, m.Partition)
		}
		return lanes[m.Partition], nil
	case m.Key != nil:
		return lanes[keyhash.Partition(t.info.Load().hash, m.Key, len(lanes))], nil
	case len(lanes) == 1:
		return lanes[0], nil
	case m.ID != "":
		return lanes[keyhash.Partition(t.info.Load().hash, []byte(m.ID), len(lanes))], nil
	}
	return lanes[t.sticky.Load()%uint32(len(lanes))], nil
}
