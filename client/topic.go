package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// topic is what the producer knows about one topic. It outlives connections: on each new one it
// asks for its handle again.
type topic struct {
	p       *producer
	name    string
	binding atomic.Pointer[binding] // nil until the broker has told the handle
	info    atomic.Pointer[topicInfo]
	lanes   atomic.Pointer[[]*lane] // one for each partition; only grows
	sticky  atomic.Uint32           // modulo the number of partitions, the one for messages without a key

	mu   sync.Mutex // held by bind; guards gone
	gone error      // why the topic was dropped, or nil
}

// topicInfo is what the producer needs to place and measure messages.
type topicInfo struct {
	id         [16]byte // of the topic
	hash       wire.Hash
	maxBatch   int // bytes
	maxMessage int // bytes
	maxAtomic  int // bytes of a batch that must not be split
}

// frameRoom is how much of a frame is reserved for what it holds besides the content of messages.
const frameRoom = 1 << 10

func newTopicInfo(b *binding, maxBatch int) *topicInfo {
	frame := wire.MaxFrameBytes
	if most := int(b.conn.hello.MaxFrame); most > frameRoom {
		frame = min(frame, most)
	}
	record := frame - frameRoom
	if most := int(b.MaxRecord); most > 0 {
		record = min(record, most)
	}
	return &topicInfo{
		id: b.ID, hash: b.Hash, maxBatch: min(maxBatch, frame-frameRoom), maxMessage: record, maxAtomic: frame - frameRoom,
	}
}

func newTopic(p *producer, name string) *topic {
	t := &topic{p: p, name: name}
	t.lanes.Store(new([]*lane))
	t.sticky.Store(rand.Uint32())
	return t
}

// errPlacedElsewhere ends messages whose partition was chosen for a topic that is gone: in the one that has its
// name now, their keys belong to other partitions. They are not stored.
var errPlacedElsewhere = wire.Errorf(wire.CodeTopicDeleted, "the topic was deleted and created again with other partitions")

// isPlacedElsewhere reports whether a message was not stored for that reason alone, so it can be placed again.
func isPlacedElsewhere(err error) bool {
	e, ok := err.(*Error) //nolint:errorlint // wrapped, it may be stored: the outcome is unknown
	return ok && e.Err == errPlacedElsewhere
}

// bind takes the broker's description of the topic and sends what waits. If that is another topic which places
// keys in other partitions, it drops this one, so that every message is placed again.
func (t *topic) bind(b *binding) {
	if t.placesElsewhere(b) {
		t.p.drop(t, explain(errPlacedElsewhere, wire.OpPublish, t.name, anyPartition))
		return
	}
	t.mu.Lock()
	lanes := *t.lanes.Load()
	for len(lanes) < int(b.Partitions) {
		l := newLane(t, uint16(len(lanes)), wire.OpPublish)
		l.gone = t.gone
		lanes = append(lanes[:len(lanes):len(lanes)], l)
	}
	t.info.Store(newTopicInfo(b, t.p.c.opts.MaxBatchBytes))
	t.lanes.Store(&lanes)
	t.binding.Store(b)
	t.mu.Unlock()
	for _, l := range lanes {
		l.kick()
	}
}

// placesElsewhere reports whether b is another topic of the same name, with other partitions.
func (t *topic) placesElsewhere(b *binding) bool {
	now := t.info.Load()
	return now != nil && now.id != b.ID && (now.hash != b.Hash || len(*t.lanes.Load()) != int(b.Partitions))
}

// drop drops all lanes, also those that a description of the topic adds which is on its way.
func (t *topic) drop(err error) {
	t.mu.Lock()
	t.gone = err
	lanes := *t.lanes.Load()
	t.mu.Unlock()
	for _, l := range lanes {
		l.drop(err)
	}
}

// ended reports whether the topic was dropped, and the callbacks of all its messages have returned.
func (t *topic) ended() bool {
	for _, l := range *t.lanes.Load() {
		if !l.ended() {
			return false
		}
	}
	return true
}

// rebind asks for the handle again, because the broker does not accept that of b any more.
func (t *topic) rebind(b *binding) {
	b.conn.forget(b, t.name)
	t.resolve(b.conn, !t.p.c.opts.NoAutoCreate)
}

// resolve asks for the handle on cn, without waiting.
func (t *topic) resolve(cn *conn, create bool) {
	cn.resolveLater(t.name, create, func(b *binding, err error) { t.resolved(cn, create, b, err) })
}

func (t *topic) resolved(cn *conn, created bool, b *binding, err error) {
	_, cut := lost(err)
	switch {
	case err == nil:
		t.bind(b)
	case cut: // the next connection asks again
	case retryLater(err):
		time.AfterFunc(jitter(time.Second/2), func() {
			if cn.alive() {
				t.resolve(cn, created)
			}
		})
	case !created && !t.p.c.opts.NoAutoCreate && t.busy():
		t.resolve(cn, true)
	default:
		t.p.drop(t, explain(err, wire.OpResolve, t.name, anyPartition))
	}
}

// outdated reports whether err may be due to an old description of the topic: meanwhile it may have
// more partitions, or accept larger messages.
func outdated(err error) bool {
	return errors.Is(err, wire.CodePartitionNotFound) || errors.Is(err, wire.CodeTooLarge)
}

// learn asks for the topic again, because it may have been altered. It returns nil when the broker did not answer,
// and another topic when t was dropped meanwhile.
func (t *topic) learn(ctx context.Context) *topic {
	bounded, cancel := t.p.c.bounded(ctx)
	defer cancel()
	cn, err := t.p.c.live(bounded)
	if err != nil {
		return nil
	}
	if b := cn.bound(t.name); b != nil {
		cn.forget(b, t.name)
	}
	b, err := cn.resolve(bounded, t.name, false)
	if err != nil {
		return nil
	}
	t.bind(b)
	now, err := t.p.topic(bounded, t.name)
	if err != nil {
		return nil
	}
	return now
}

func (t *topic) busy() bool {
	for _, l := range *t.lanes.Load() {
		if l.busy() {
			return true
		}
	}
	return false
}

// moveOn moves messages without a key to the next partition, if they go to this one.
func (t *topic) moveOn(partition uint16) {
	n := uint32(len(*t.lanes.Load()))
	if now := t.sticky.Load(); now%n == uint32(partition) {
		t.sticky.CompareAndSwap(now, now+1)
	}
}
