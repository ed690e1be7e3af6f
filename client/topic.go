package client

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// topic is what the producer knows about one topic. It outlives connections: after each new one the
// handle is asked for again.
type topic struct {
	p       *producer
	name    string
	binding atomic.Pointer[binding] // nil while the handle is being asked for
	info    atomic.Pointer[topicInfo]
	lanes   atomic.Pointer[[]*lane] // only grows
	placing atomic.Pointer[[]*lane] // of the partitions that the topic has: fewer, when it was deleted and made again
	sticky  atomic.Uint32           // the partition of messages without a key, modulo their number

	mu sync.Mutex // held while lanes grow
}

// topicInfo is what placing and measuring a message needs.
type topicInfo struct {
	hash       wire.Hash
	maxBatch   int // bytes
	maxMessage int // bytes
	maxAtomic  int // bytes of a batch that must be whole
}

// frameRoom is what a frame needs besides the content of its only message.
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
		hash: b.Hash, maxBatch: min(maxBatch, frame-frameRoom), maxMessage: record, maxAtomic: frame - frameRoom,
	}
}

func newTopic(p *producer, name string) *topic {
	t := &topic{p: p, name: name}
	t.lanes.Store(new([]*lane))
	t.placing.Store(new([]*lane))
	t.sticky.Store(rand.Uint32())
	return t
}

// bind takes what the broker says about the topic and sends what waits.
func (t *topic) bind(b *binding) {
	t.mu.Lock()
	lanes := *t.lanes.Load()
	for len(lanes) < int(b.Partitions) {
		lanes = append(lanes[:len(lanes):len(lanes)], newLane(t, uint16(len(lanes)), wire.OpPublish))
	}
	t.info.Store(newTopicInfo(b, t.p.c.opts.MaxBatchBytes))
	t.lanes.Store(&lanes)
	placing := lanes[:b.Partitions]
	t.placing.Store(&placing)
	t.binding.Store(b)
	t.mu.Unlock()
	for _, l := range lanes {
		l.kick()
	}
}

// rebind asks for the handle again, because the broker does not honour the one of b any more.
func (t *topic) rebind(b *binding) {
	b.conn.forget(b, t.name)
	t.resolve(b.conn, !t.p.c.opts.NoAutoCreate)
}

// resolve asks for the handle on cn without waiting.
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

// learn asks for the topic again, because a partition may have been added since, and reports whether
// there was an answer.
func (t *topic) learn(ctx context.Context) bool {
	bounded, cancel := t.p.c.bounded(ctx)
	defer cancel()
	cn, err := t.p.c.live(bounded)
	if err != nil {
		return false
	}
	if b := cn.bound(t.name); b != nil {
		cn.forget(b, t.name)
	}
	b, err := cn.resolve(bounded, t.name, false)
	if err != nil {
		return false
	}
	t.bind(b)
	return true
}

func (t *topic) busy() bool {
	for _, l := range *t.lanes.Load() {
		if l.busy() {
			return true
		}
	}
	return false
}

// moveOn has messages without a key go to the next partition, when they went to this one.
func (t *topic) moveOn(partition uint16) {
	n := uint32(len(*t.placing.Load()))
	if now := t.sticky.Load(); now%n == uint32(partition) {
		t.sticky.CompareAndSwap(now, now+1)
	}
}
