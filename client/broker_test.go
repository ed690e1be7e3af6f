package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// broker is a small broker for tests: topics in memory, one entry per publish, everything answered
// at once. Its hook sees every frame first and may answer instead of it.
type broker struct {
	t    testing.TB
	ln   net.Listener
	wg   sync.WaitGroup
	info string

	mu     sync.Mutex
	topics map[string]*fakeTopic
	ids    byte
	conns  map[*fakeConn]struct{}
	hook   func(c *fakeConn, f wire.Frame) bool // true: handled
	hello  wire.HelloReply
	seen   []wire.Op
	hellos []wire.Hello
	auto   bool
}

type fakeTopic struct {
	name  string
	id    [16]byte
	hash  wire.Hash
	parts []*fakePart
	gone  bool

	committed map[string]map[uint16]uint64
	queues    map[string]*fakeQueue
}

type fakePart struct {
	first   uint64
	next    uint64
	entries [][]byte
	bases   []uint64
	changed chan struct{}
}

type fakeConn struct {
	b       *broker
	nc      net.Conn
	wmu     sync.Mutex
	handles []*fakeTopic
	subs    map[uint32]*fakeSub
	gone    chan struct{}
}

type fakeSub struct {
	mu     sync.Mutex
	credit int
	wake   chan struct{}
	stop   chan struct{}
	once   sync.Once
}

func (s *fakeSub) end() { s.once.Do(func() { close(s.stop) }) }

func startBroker(t testing.TB) *broker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &broker{
		t: t, ln: ln, topics: map[string]*fakeTopic{}, conns: map[*fakeConn]struct{}{}, auto: true,
		info:  "INFO {\"server\":\"fake\"}\r\n",
		hello: wire.HelloReply{ServerName: "fake", ServerVersion: "0.0", MaxFrame: wire.MaxFrameBytes, MaxRecord: 1 << 20},
	}
	b.wg.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

func (b *broker) addr() string { return b.ln.Addr().String() }

func (b *broker) accept() {
	for {
		nc, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() { b.serve(nc) })
	}
}

func (b *broker) close() {
	_ = b.ln.Close()
	b.cut()
	b.wg.Wait()
}

// cut breaks every connection.
func (b *broker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.nc.Close()
	}
}

func (b *broker) setHook(h func(c *fakeConn, f wire.Frame) bool) {
	b.mu.Lock()
	b.hook = h
	b.mu.Unlock()
}

// locked runs f, which may end the test, while the broker stands still.
func (b *broker) locked(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *broker) ops() []wire.Op {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

func (b *broker) count(op wire.Op) (n int) {
	for _, o := range b.ops() {
		if o == op {
			n++
		}
	}
	return n
}

// create makes a topic; b.mu is not held.
func (b *broker) create(name string, partitions int) *fakeTopic {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.createLocked(name, partitions)
}

func (b *broker) createLocked(name string, partitions int) *fakeTopic {
	b.ids++
	t := &fakeTopic{
		name: name, id: [16]byte{b.ids}, committed: map[string]map[uint16]uint64{}, queues: map[string]*fakeQueue{},
	}
	for range partitions {
		t.parts = append(t.parts, &fakePart{changed: make(chan struct{})})
	}
	b.topics[name] = t
	return t
}

func (b *broker) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[name]
	t.gone = true
	delete(b.topics, name)
	for _, p := range t.parts {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// values returns what a partition stores.
func (b *broker) values(topic string, partition int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	if t == nil {
		return nil
	}
	seed := wire.Identity{Topic: t.id, Partition: uint32(partition)}.Seed()
	var got []string
	var c cursor
	for _, e := range t.parts[partition].entries {
		c.reset(e, seed, 0)
		for {
			ok, err := c.more()
			require.NoError(b.t, err)
			if !ok {
				break
			}
			var m Message
			c.take(&m)
			got = append(got, string(m.Value))
		}
	}
	return got
}

func (b *broker) serve(nc net.Conn) {
	c := &fakeConn{b: b, nc: nc, subs: map[uint32]*fakeSub{}, gone: make(chan struct{})}
	b.mu.Lock()
	b.conns[c] = struct{}{}
	b.mu.Unlock()
	defer func() {
		_ = nc.Close()
		close(c.gone)
		b.mu.Lock()
		delete(b.conns, c)
		for _, s := range c.subs {
			s.end()
		}
		for _, t := range b.topics {
			for _, q := range t.queues {
				q.release(c)
			}
		}
		b.mu.Unlock()
	}()
	if _, err := io.WriteString(nc, b.info); err != nil {
		return
	}
	r := bufio.NewReader(nc)
	preface := make([]byte, wire.PrefaceBytes)
	if _, err := io.ReadFull(r, preface); err != nil {
		return
	}
	if _, err := wire.ParsePreface(preface); err != nil {
		return
	}
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16 | int(head[3])<<24
		whole := append(head, make([]byte, n)...)
		if _, err := io.ReadFull(r, whole[4:]); err != nil {
			return
		}
		f, _, _, ok, err := wire.NextFrame(whole, wire.MaxFrameBytes)
		if err != nil || !ok {
			return
		}
		b.mu.Lock()
		b.seen = append(b.seen, f.Op)
		hook := b.hook
		b.mu.Unlock()
		if hook != nil && hook(c, f) {
			continue
		}
		c.handle(f)
	}
}

// handle answers a frame as a broker would.
func (c *fakeConn) handle(f wire.Frame) {
	if err := c.run(f); err != nil {
		we := new(wire.Error)
		if code, ok := err.(wire.Code); ok {
			we = wire.Errorf(code, "")
		} else {
			we = err.(*wire.Error)
		}
		c.fail(f, we)
	}
}

func (c *fakeConn) fail(f wire.Frame, we *wire.Error) {
	c.send(wire.AppendError(nil, f.Op, f.Correlation, we))
}

func (c *fakeConn) send(b []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, _ = c.nc.Write(b)
}

func (c *fakeConn) reply(f wire.Frame, flags wire.Flags, body []byte) {
	c.send(encodeFrame(f.Op|wire.OpReply, flags, f.Correlation, body))
}

func encodeFrame(op wire.Op, flags wire.Flags, id uint32, body []byte) []byte {
	return append(wire.AppendHeader(nil, op, flags, id, len(body)), body...)
}

func (c *fakeConn) topic(handle uint16) (*fakeTopic, error) {
	if int(handle) > len(c.handles) || handle == 0 || c.handles[handle-1].gone {
		return nil, wire.CodeTopicNotFound
	}
	return c.handles[handle-1], nil
}

func (c *fakeConn) run(f wire.Frame) error {
	b := c.b
	switch f.Op {
	case wire.OpSubscribe, wire.OpFetch, wire.OpLease:
		return c.runReading(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch f.Op {
	case wire.OpHello:
		var h wire.Hello
		if err := h.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		h.Credentials = slices.Clone(h.Credentials)
		b.hellos = append(b.hellos, h)
		c.reply(f, 0, b.hello.Append(nil))
	case wire.OpPing:
		c.reply(f, 0, f.Body)
	case wire.OpResolve:
		return c.resolve(f)
	case wire.OpPublish:
		return c.publish(f)
	case wire.OpOffsets:
		var m wire.Offsets
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		t, err := c.topic(m.Handle)
		if err != nil {
			return err
		}
		if int(m.Partition) >= len(t.parts) {
			return wire.CodePartitionNotFound
		}
		p := t.parts[m.Partition]
		off, err := t.position(m.Partition, m.From, m.Group)
		if err != nil {
			return err
		}
		c.reply(f, 0, (&wire.OffsetsReply{Offset: off, First: p.first, Visible: p.next}).Append(nil))
	case wire.OpCredit:
		var m wire.Credit
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		if s := c.subs[m.Subscription]; s != nil {
			s.add(int(m.Bytes))
		}
	case wire.OpUnsubscribe:
		var m wire.Unsubscribe
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		if s := c.subs[m.Subscription]; s != nil {
			s.end()
			delete(c.subs, m.Subscription)
		}
		c.reply(f, 0, nil)
	case wire.OpCommit, wire.OpCommitted:
		return c.commits(f)
	case wire.OpJoinGroup:
		return c.join(f)
	case wire.OpHeartbeat:
		var m wire.Heartbeat
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		c.reply(f, wire.FlagUnchanged, (&wire.Assigned{Revision: m.Revision}).Append(nil))
	case wire.OpLeaveGroup:
		c.reply(f, 0, nil)
	case wire.OpOpenQueue, wire.OpAck, wire.OpNack, wire.OpReject, wire.OpExtend:
		return c.queue(f)
	default:
		return c.admin(f)
	}
	return nil
}

func (c *fakeConn) resolve(f wire.Frame) error {
	var m wire.Resolve
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	t := c.b.topics[m.Topic]
	if t == nil {
		if f.Flags&wire.FlagCreate == 0 || !c.b.auto {
			return wire.CodeTopicNotFound
		}
		t = c.b.createLocked(m.Topic, 1)
	}
	c.handles = append(c.handles, t)
	r := wire.ResolveReply{
		Handle: uint16(len(c.handles)), ID: t.id, Partitions: uint16(len(t.parts)),
		Level: wire.LevelDisk, Hash: t.hash, MaxRecord: c.b.hello.MaxRecord,
	}
	c.reply(f, 0, r.Append(nil))
	return nil
}

func (c *fakeConn) publish(f wire.Frame) error {
	var m wire.Publish
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	batch, err := wire.ParseBatch(m.Batch)
	if err != nil {
		return wire.CodeCorruptBatch
	}
	if err := batch.Validate(int(c.b.hello.MaxRecord)); err != nil {
		return wire.CodeTooLarge
	}
	base := t.store(m.Partition, batch)
	if level := wire.Level(f.Flags & wire.FlagLevel); level != wire.LevelNone {
		c.reply(f, wire.Flags(max(level, wire.LevelDisk)), wire.PublishReply{Base: base}.Append(nil, 0))
	}
	return nil
}

// store appends one batch; the broker's mutex is held.
func (t *fakeTopic) store(partition uint16, batch wire.Batch) (base uint64) {
	p := t.parts[partition]
	e := make([]byte, wire.StampBytes, wire.StampBytes+len(batch.Raw()))
	e = append(e, batch.Raw()...)
	s := wire.Stamp{
		Length: uint32(len(batch.Raw())), Kind: wire.KindData, Count: batch.Count(), Term: 1,
		Index: uint64(len(p.entries) + 1), BaseOffset: p.next, Time: 1_700_000_000_000,
	}
	s.Put(e, wire.Identity{Topic: t.id, Partition: uint32(partition)}.Seed())
	p.entries = append(p.entries, e)
	p.bases = append(p.bases, p.next)
	base = p.next
	p.next += uint64(batch.Count())
	close(p.changed)
	p.changed = make(chan struct{})
	return base
}

// fill stores messages in batches of size.
func (b *broker) fill(topic string, partition int, size int, values ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for chunk := range slices.Chunk(values, size) {
		var bb wire.BatchBuilder
		for _, v := range chunk {
			bb.Add(wire.Record{Value: []byte(v)})
		}
		batch, err := wire.ParseBatch(slices.Clone(bb.Bytes()))
		require.NoError(b.t, err)
		b.topics[topic].store(uint16(partition), batch)
	}
}

func (t *fakeTopic) position(partition uint16, p wire.Position, group string) (uint64, error) {
	part := t.parts[partition]
	switch p.Kind {
	case wire.PositionFirst:
		return part.first, nil
	case wire.PositionLast:
		return max(part.first, part.next-min(1, part.next)), nil
	case wire.PositionEnd:
		return part.next, nil
	case wire.PositionCommitted:
		if off, ok := t.committed[group][partition]; ok {
			return off, nil
		}
		return part.first, nil
	case wire.PositionTime:
		return part.first, nil
	}
	if p.Value < part.first || p.Value > part.next {
		e := wire.Errorf(wire.CodeOffsetOutOfRange, "offset %d", p.Value)
		e.First, e.Next = part.first, part.next
		return 0, e
	}
	return p.Value, nil
}

// from returns the entries that hold offset and later ones, up to limit bytes but at least one.
func (p *fakePart) from(offset uint64, limit int) (entries []byte, next uint64) {
	next = offset
	for i, e := range p.entries {
		end := p.next
		if i+1 < len(p.bases) {
			end = p.bases[i+1]
		}
		if end <= offset {
			continue
		}
		if len(entries) > 0 && len(entries)+len(e) > limit {
			break
		}
		entries = append(entries, e...)
		next = end
	}
	return entries, next
}

func (c *fakeConn) runReading(f wire.Frame) error {
	switch f.Op {
	case wire.OpSubscribe:
		return c.subscribe(f)
	case wire.OpLease:
		return c.lease(f)
	}
	var m wire.Fetch
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	if int(m.Partition) >= len(t.parts) {
		return wire.CodePartitionNotFound
	}
	off, err := t.position(m.Partition, m.From, m.Group)
	if err != nil {
		return err
	}
	p := t.parts[m.Partition]
	answer := func() {
		entries, next := p.from(off, int(m.MaxBytes))
		c.reply(f, 0, (&wire.Entries{First: p.first, Visible: p.next, Next: next, Bytes: entries}).Append(nil))
	}
	if entries, _ := p.from(off, 1); len(entries) > 0 || m.MinBytes == 0 || m.MaxWaitMs == 0 {
		answer()
		return nil
	}
	changed := p.changed
	c.b.wg.Go(func() {
		timer := time.NewTimer(time.Duration(m.MaxWaitMs) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		case <-c.gone:
			return
		}
		c.b.mu.Lock()
		defer c.b.mu.Unlock()
		answer()
	})
	return nil
}

func (s *fakeSub) add(n int) {
	s.mu.Lock()
	s.credit += n
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (c *fakeConn) subscribe(f wire.Frame) error {
	var m wire.Subscribe
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	off, err := t.position(m.Partition, m.From, m.Group)
	if err != nil {
		return err
	}
	s := &fakeSub{credit: int(m.Credit), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	c.subs[f.Correlation] = s
	c.reply(f, 0, wire.SubscribeReply{Offset: off}.Append(nil))
	id := f.Correlation
	c.b.wg.Go(func() { c.deliver(id, s, t, t.parts[m.Partition], off) })
	return nil
}

func (c *fakeConn) deliver(id uint32, s *fakeSub, t *fakeTopic, p *fakePart, off uint64) {
	for {
		c.b.mu.Lock()
		if t.gone {
			delete(c.subs, id)
			c.b.mu.Unlock()
			c.send(encodeFrame(wire.OpDeliver, wire.FlagError, id, wire.Errorf(wire.CodeTopicDeleted, "").Append(nil)))
			return
		}
		s.mu.Lock()
		credit := s.credit
		s.mu.Unlock()
		var entries []byte
		var next uint64
		if credit > 0 {
			entries, next = p.from(off, credit)
		}
		e := wire.Entries{First: p.first, Visible: p.next, Next: next, Bytes: entries}
		changed := p.changed
		c.b.mu.Unlock()
		if len(entries) > 0 {
			s.mu.Lock()
			s.credit -= len(entries)
			s.mu.Unlock()
			off = next
			c.send(encodeFrame(wire.OpDeliver, 0, id, e.Append(nil)))
			continue
		}
		select {
		case <-changed:
		case <-s.wake:
		case <-s.stop:
			return
		}
	}
}

func (c *fakeConn) commits(f wire.Frame) error {
	if f.Op == wire.OpCommitted {
		var m wire.Committed
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		t, err := c.topic(m.Handle)
		if err != nil {
			return err
		}
		var r wire.CommittedReply
		for p, off := range t.committed[m.Group] {
			r.Offsets = append(r.Offsets, wire.CommittedOffset{Partition: p, Offset: off})
		}
		c.reply(f, 0, r.Append(nil))
		return nil
	}
	var m wire.Commit
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	t, err := c.topic(m.Handle)
	if err != nil {
		return err
	}
	group := string(m.Group)
	if t.committed[group] == nil {
		t.committed[group] = map[uint16]uint64{}
	}
	for _, o := range m.Offsets {
		t.committed[group][o.Partition] = o.Offset
	}
	c.reply(f, 0, nil)
	return nil
}

// join gives a member every partition of its topics.
func (c *fakeConn) join(f wire.Frame) error {
	var m wire.JoinGroup
	if err := m.Parse(f.Body); err != nil {
		return wire.CodeMalformed
	}
	a := wire.Assigned{Revision: 1}
	for _, name := range m.Topics {
		t := c.b.topics[name]
		if t == nil {
			return wire.CodeTopicNotFound
		}
		at := wire.AssignedTopic{Topic: name}
		for p := range t.parts {
			at.Partitions = append(at.Partitions, wire.AssignedPartition{Partition: uint16(p), Generation: 1})
		}
		a.Topics = append(a.Topics, at)
	}
	c.reply(f, 0, a.Append(nil))
	return nil
}

func (c *fakeConn) admin(f wire.Frame) error {
	b := c.b
	info := func(t *fakeTopic) *wire.TopicInfo {
		i := &wire.TopicInfo{Topic: t.name, ID: t.id}
		for _, p := range t.parts {
			i.Partitions = append(i.Partitions, wire.PartitionInfo{First: p.first, Visible: p.next, Next: p.next})
		}
		return i
	}
	switch f.Op {
	case wire.OpCreateTopic:
		var m wire.CreateTopic
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		t := b.topics[m.Topic]
		if t != nil && f.Flags&wire.FlagIfNotExists == 0 {
			return wire.CodeTopicExists
		}
		if t == nil {
			t = b.createLocked(m.Topic, max(1, int(m.Partitions)))
		}
		c.reply(f, 0, info(t).Append(nil))
	case wire.OpDescribeTopic, wire.OpDeleteTopic:
		var m wire.TopicName
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		t := b.topics[m.Topic]
		if t == nil {
			return wire.CodeTopicNotFound
		}
		if f.Op == wire.OpDescribeTopic {
			c.reply(f, 0, info(t).Append(nil))
			return nil
		}
		t.gone = true
		delete(b.topics, m.Topic)
		c.reply(f, 0, nil)
	case wire.OpListTopics:
		var m wire.ListTopics
		if err := m.Parse(f.Body); err != nil {
			return wire.CodeMalformed
		}
		var all []*fakeTopic
		for _, t := range b.topics {
			if t.name > m.After {
				all = append(all, t)
			}
		}
		slices.SortFunc(all, func(x, y *fakeTopic) int { return cmp.Compare(x.name, y.name) })
		list := wire.TopicList{More: len(all) > 2}
		for _, t := range all[:min(2, len(all))] {
			list.Topics = append(list.Topics, *info(t))
		}
		c.reply(f, 0, list.Append(nil))
	case wire.OpPurgeTopic, wire.OpDeleteGroup:
		c.reply(f, 0, nil)
	case wire.OpGroups:
		body, _ := json.Marshal([]wire.GroupInfo{{Group: "g", Mode: "group", Topic: "t", Lag: 3}})
		c.reply(f, 0, body)
	case wire.OpStats:
		c.reply(f, 0, []byte(`{"connections":1}`))
	default:
		return wire.CodeUnsupported
	}
	return nil
}

func dial(t testing.TB, b *broker, o Options) *Client {
	t.Helper()
	set(&o.ReconnectMin, time.Millisecond)
	set(&o.ReconnectMax, 5*time.Millisecond)
	c, err := Dial(within(t), b.addr(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// within returns a context that ends before the test does.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok, which must become true.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, time.Millisecond)
}

func text(i int) string { return fmt.Sprintf("message %d", i) }

func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = text(i)
	}
	return all
}
