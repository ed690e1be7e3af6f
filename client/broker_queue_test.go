package client

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// fakeQueue leases each offset of partition 0 and 1… in order; nacked offsets return at once.
type fakeQueue struct {
	next    map[uint16]uint64
	again   map[uint16][]uint64
	attempt map[[2]uint64]uint32
	leased  map[[2]uint64]*fakeConn
	acked   map[[2]uint64]bool
	dead    map[[2]uint64]string
	extends int
	delays  []int32
	open    wire.OpenQueue
}

func (q *fakeQueue) release(c *fakeConn) {
	for k, owner := range q.leased {
		if owner == c {
			delete(q.leased, k)
			q.again[uint16(k[0])] = append(q.again[uint16(k[0])], k[1])
		}
	}
}

func (c *fakeConn) queue(f wire.Frame) error {
	if f.Op == wire.OpOpenQueue {
		var m wire.OpenQueue
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		t, err := c.topic(m.Handle)
		if err != nil {
			return err
		}
		if t.queues[m.Group] == nil {
			t.queues[m.Group] = &fakeQueue{
				next: map[uint16]uint64{}, again: map[uint16][]uint64{}, attempt: map[[2]uint64]uint32{},
				leased: map[[2]uint64]*fakeConn{}, acked: map[[2]uint64]bool{}, dead: map[[2]uint64]string{},
			}
		}
		t.queues[m.Group].open = m
		c.reply(f, 0, nil)
		return nil
	}
	var m wire.Settle
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	q := t.queues[string(m.Group)]
	if q == nil {
		return wire.CodeGroupNotFound
	}
	c.reply(f, 0, wire.SettleReply{Lost: q.settle(f.Op, &m, c)}.Append(nil))
	p := t.parts[m.Partition]
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (q *fakeQueue) settle(op wire.Op, m *wire.Settle, c *fakeConn) (lost uint32) {
	if op == wire.OpExtend {
		q.extends++
	}
	for _, r := range m.Ranges {
		for off := r.First; off < r.First+uint64(r.Count); off++ {
			k := [2]uint64{uint64(m.Partition), off}
			if q.leased[k] != c || q.attempt[k] != r.Attempt {
				lost++
				continue
			}
			switch op {
			case wire.OpAck:
				q.acked[k] = true
			case wire.OpNack:
				q.delays = append(q.delays, m.Ms)
				q.again[m.Partition] = append(q.again[m.Partition], off)
			case wire.OpReject:
				q.dead[k] = string(m.Reason)
			case wire.OpExtend:
				continue
			}
			delete(q.leased, k)
		}
	}
	return lost
}

func (c *fakeConn) lease(f wire.Frame) error {
	var m wire.Lease
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	q := t.queues[string(m.Group)]
	if q == nil {
		return wire.CodeGroupNotFound
	}
	if c.tryLease(f, t, q, &m) {
		return nil
	}
	later := m
	later.Group = slices.Clone(m.Group)
	c.b.wg.Go(func() { c.leaseLater(f, t, q, &later) })
	return nil
}

func (c *fakeConn) leaseLater(f wire.Frame, t *fakeTopic, q *fakeQueue, m *wire.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(m.MaxWaitMs)*time.Millisecond)
	defer cancel()
	for {
		c.b.mu.Lock()
		if c.tryLease(f, t, q, m) {
			c.b.mu.Unlock()
			return
		}
		wake := make(chan struct{}, 1)
		for _, p := range t.parts {
			changed := p.changed
			c.b.wg.Go(func() {
				select {
				case <-changed:
				case <-ctx.Done():
				case <-c.gone:
				}
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		}
		c.b.mu.Unlock()
		<-wake
		select {
		case <-c.gone:
			return
		default:
		}
		if ctx.Err() != nil {
			c.reply(f, 0, (&wire.Leased{}).Append(nil))
			return
		}
	}
}

func (c *fakeConn) tryLease(f wire.Frame, t *fakeTopic, q *fakeQueue, m *wire.Lease) bool {
	select {
	case <-c.gone:
		return false
	default:
	}
	for i, p := range t.parts {
		pi := uint16(i)
		var offs []uint64
		for len(q.again[pi]) > 0 && len(offs) < int(m.MaxMessages) {
			offs = append(offs, q.again[pi][0])
			q.again[pi] = q.again[pi][1:]
		}
		for q.next[pi] < p.next && len(offs) < int(m.MaxMessages) {
			offs = append(offs, q.next[pi])
			q.next[pi]++
		}
		if len(offs) == 0 {
			continue
		}
		slices.Sort(offs)
		l := wire.Leased{Partition: pi}
		for _, off := range offs {
			k := [2]uint64{uint64(i), off}
			q.attempt[k]++
			q.leased[k] = c
			l.Ranges = append(l.Ranges, wire.LeaseRange{First: off, Count: 1, Attempt: q.attempt[k]})
			e, _ := p.from(off, 1)
			if len(l.Bytes) == 0 || !bytes.HasSuffix(l.Bytes, e) {
				l.Bytes = append(l.Bytes, e...)
			}
		}
		c.reply(f, 0, l.Append(nil))
		return true
	}
	return false
}
