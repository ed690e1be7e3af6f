package server

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/wire"
)

// hostile makes requests that are well-formed and make no sense.
type hostile struct {
	rng *rand.Rand
}

func pick[T any](h *hostile, of ...T) T { return of[h.rng.IntN(len(of))] }

func (h *hostile) u16() uint16 { return pick[uint16](h, 0, 0, 1, 2, 7, math.MaxUint16) }

func (h *hostile) u32() uint32 {
	return pick[uint32](h, 0, 1, 2, 100, 1<<20, math.MaxInt32, math.MaxUint32-1, math.MaxUint32)
}

func (h *hostile) u64() uint64 {
	return pick[uint64](h, 0, 1, 2, 5, 1<<32, math.MaxInt64, math.MaxInt64+1, math.MaxUint64-1, math.MaxUint64)
}

func (h *hostile) name() string {
	return pick(h, "", "t", "q", "g", "m", "other", "a..b", "x>*", "t.q.dlq")
}

func (h *hostile) position() wire.Position {
	return wire.Position{Kind: wire.PositionKind(h.rng.IntN(7)), Value: h.u64()}
}

func (h *hostile) ranges() (rs []wire.LeaseRange) {
	for range h.rng.IntN(4) {
		rs = append(rs, wire.LeaseRange{First: h.u64(), Count: h.u32(), Attempt: h.u32()})
	}
	return rs
}

func (h *hostile) offsets() (os []wire.PartitionOffset) {
	for range h.rng.IntN(3) {
		os = append(os, wire.PartitionOffset{Partition: h.u16(), Offset: h.u64()})
	}
	return os
}

func (h *hostile) batch() []byte {
	b := batchOf("a", "b")
	if h.rng.IntN(3) == 0 {
		b[h.rng.IntN(len(b))] ^= byte(1 << h.rng.IntN(8))
	}
	return b
}

// reading returns a request that reads.
func (h *hostile) reading() (wire.Op, func([]byte) []byte) {
	switch h.rng.IntN(8) {
	case 0:
		return wire.OpFetch, (&wire.Fetch{
			Handle: h.u16(), Partition: h.u16(), From: h.position(),
			MinBytes: h.u32(), MaxBytes: h.u32(), MaxWaitMs: h.u32(), Group: h.name(),
		}).Append
	case 1:
		return wire.OpSubscribe, (&wire.Subscribe{
			Handle: h.u16(), Partition: h.u16(), From: h.position(), Credit: h.u32(), MaxBytes: h.u32(),
			Group: h.name(),
		}).Append
	case 2:
		return wire.OpCredit, wire.Credit{Subscription: h.u32(), Bytes: h.u32()}.Append
	case 3:
		return wire.OpUnsubscribe, wire.Unsubscribe{Subscription: h.u32()}.Append
	case 4:
		return wire.OpOffsets, (&wire.Offsets{
			Handle: h.u16(), Partition: h.u16(), From: h.position(), Group: h.name(),
		}).Append
	case 5:
		return wire.OpGet, (&wire.Get{Handle: h.u16(), Partition: h.u16(), Key: []byte(h.name())}).Append
	case 6:
		return wire.OpSchedules, (&wire.Schedules{
			Handle: h.u16(), Partition: h.u16(), ID: h.u64(), AfterDue: int64(h.u64()), AfterID: h.u64(), Limit: h.u32(),
		}).Append
	}
	return wire.OpListTopics, (&wire.ListTopics{After: h.name(), Limit: h.u16()}).Append
}

// queueing returns a request about queues.
func (h *hostile) queueing() (wire.Op, func([]byte) []byte) {
	switch h.rng.IntN(4) {
	case 0:
		return wire.OpLease, (&wire.Lease{
			Handle: h.u16(), Partition: h.u16(), Group: []byte(h.name()), MaxMessages: h.u32(),
			MaxBytes: h.u32(), MaxWaitMs: h.u32(), LeaseMs: h.u32(),
		}).Append
	case 1:
		return wire.OpPending, (&wire.Pending{
			Handle: h.u16(), Partition: h.u16(), Group: h.name(), From: h.u64(), Limit: h.u32(),
		}).Append
	case 2:
		return wire.OpOpenQueue, (&wire.OpenQueue{
			Handle: h.u16(), Group: h.name(), Start: h.position(), LeaseMs: h.u32(),
			BackoffMinMs: h.u32(), BackoffMaxMs: h.u32(), MaxDeliveries: h.u32(), DeadLetter: h.name(),
		}).Append
	}
	op := pick(h, wire.OpAck, wire.OpNack, wire.OpReject, wire.OpExtend, wire.OpDiscard)
	return op, (&wire.Settle{
		Handle: h.u16(), Partition: h.u16(), Group: []byte(h.name()), Ranges: h.ranges(),
		Ms: int32(h.u32()), Reason: []byte(h.name()),
	}).Append
}

// grouping returns a request about groups.
func (h *hostile) grouping() (wire.Op, func([]byte) []byte) {
	parts := []wire.TopicPartitions{{Topic: h.name(), Partitions: []uint16{h.u16(), h.u16()}}}
	switch h.rng.IntN(7) {
	case 0:
		return wire.OpCommit, (&wire.Commit{
			Handle: h.u16(), Group: []byte(h.name()), Generation: h.u32(), Offsets: h.offsets(),
		}).Append
	case 1:
		return wire.OpCommitted, (&wire.Committed{Handle: h.u16(), Group: h.name()}).Append
	case 2:
		return wire.OpJoinGroup, (&wire.JoinGroup{
			Group: h.name(), Member: h.name(), Instance: h.name(), SessionMs: h.u32(),
			HandoverMs: h.u32(), Topics: []string{h.name()}, Claims: parts,
		}).Append
	case 3:
		return wire.OpHeartbeat, (&wire.Heartbeat{Group: h.name(), Member: h.name(), Revision: h.u32(), Busy: parts}).Append
	case 4:
		return wire.OpLeaveGroup, (&wire.LeaveGroup{Group: h.name(), Member: h.name()}).Append
	case 5:
		return wire.OpSeekGroup, (&wire.SeekGroup{Group: h.name(), Topic: h.name(), Offsets: h.offsets()}).Append
	}
	return wire.OpPauseGroup, (&wire.PauseGroup{Group: h.name(), Topic: h.name(), Pause: h.rng.IntN(2) == 0}).Append
}

// writing returns a request that changes something.
func (h *hostile) writing() (wire.Op, func([]byte) []byte) {
	switch h.rng.IntN(6) {
	case 0:
		return wire.OpPublish, publishBody(h.u16(), h.u16(), h.batch())
	case 1:
		return wire.OpSchedule, (&wire.Schedule{Handle: h.u16(), Partition: h.u16(), Items: []wire.ScheduleItem{{
			Kind: wire.ScheduleKind(h.rng.IntN(5)), Ms: int64(h.u64()), Batch: h.batch(),
			Spec: []byte(pick(h, "", "", "* * * * *", "@every 1s", "60 * * * *")),
		}}}).Append
	case 2:
		return wire.OpCancel, (&wire.Cancel{Handle: h.u16(), Partition: h.u16(), IDs: []uint64{h.u64(), h.u64()}}).Append
	case 3:
		return wire.OpListen, wire.Listen{Pattern: h.name(), Queue: h.name()}.Append
	case 4:
		return wire.OpUnlisten, wire.Unlisten{Subscription: h.u32(), Max: h.u64()}.Append
	}
	return wire.OpResolve, (&wire.Resolve{Topic: pick(h, "", "t", "other", "a..b")}).Append
}

// frame returns a frame, now and then a damaged one.
func (h *hostile) frame(clean bool) []byte {
	op, body := pick(h, h.reading, h.queueing, h.grouping, h.writing)()
	f := request1(op, pick[wire.Flags](h, 0, 0, 0, 1, 4, 0xff), pick(h, h.rng.Uint32(), 0, 1, math.MaxUint32), body)
	if !clean && h.rng.IntN(100) == 0 {
		f[h.rng.IntN(len(f))] ^= byte(1 << h.rng.IntN(8))
	}
	return f
}

// attack sends frames in pieces until the broker closes the connection, and ends it in one of several ways.
func (h *hostile) attack(t *testing.T, srv *Server) {
	p := login(t, srv)
	p.resolve("t")
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, p.conn)
	}()
	clean := h.rng.IntN(2) == 0
	for range h.rng.IntN(300) {
		f := h.frame(clean)
		cut := h.rng.IntN(len(f) + 1)
		if _, err := p.conn.Write(f[:cut]); err != nil {
			break
		}
		if _, err := p.conn.Write(f[cut:]); err != nil {
			break
		}
	}
	switch h.rng.IntN(3) {
	case 0:
		_ = p.conn.(*net.TCPConn).CloseWrite() // what waits goes on until the broker notices
		<-read
	case 1:
		_ = p.conn.(*net.TCPConn).SetLinger(0)
	}
	_ = p.conn.Close()
	<-read
}

// Whatever a client asks for, the broker does not fail, and serves others.
func TestModelOfHostileClients(t *testing.T) {
	seeds.Each(t, 2, func(t *testing.T, seed uint64) {
		h := &hostile{rand.New(rand.NewPCG(seed, 0))}
		srv := startServer(t, Options{Loops: 2, Dir: t.TempDir()})
		_, err := srv.registry.Create("t", 3, nil)
		require.NoError(t, err)
		_, err = srv.registry.Create("calm", 1, nil)
		require.NoError(t, err)
		good := login(t, srv)
		calm := good.resolve("calm").Handle
		for i := range uint64(10) {
			h.attack(t, srv)
			require.NoError(t, good.conn.SetDeadline(time.Now().Add(waitLimit)))
			require.Equal(t, i, good.publish(calm, 0, "x"))
		}
		require.Zero(t, srv.metrics.panics.Load())
		for _, l := range srv.loops {
			require.Eventually(t, func() bool {
				left := make(chan int, 1)
				l.loop.post(jobFunc(func(time.Time) {
					n := len(l.loop.timers.h) + len(l.loop.stuck)
					for _, w := range l.loop.watches {
						n += w.polls.len() + w.subs.len()
					}
					left <- n
				}))
				return <-left == 0
			}, waitLimit, 10*time.Millisecond)
		}
	})
}
