package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// eachKind runs a test against a broker in memory and one with a data directory, over TCP and over
// the in-memory connection.
func eachKind(t *testing.T, f func(t *testing.T, srv *Server, login func() *peer)) {
	t.Helper()
	for name, dir := range map[string]func() string{
		"memory": func() string { return "" },
		"file":   t.TempDir,
	} {
		t.Run(name+" over tcp", func(t *testing.T) {
			srv := startServer(t, Options{Dir: dir()})
			f(t, srv, func() *peer { return login(t, srv) })
		})
		t.Run(name+" in process", func(t *testing.T) {
			srv := startServer(t, Options{Dir: dir()})
			f(t, srv, func() *peer {
				conn, err := srv.Dial(context.Background())
				require.NoError(t, err)
				p := greet(t, conn)
				p.hello()
				return p
			})
		})
	}
}

func TestPublishedRecordsAreFetchedBack(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		p := login()
		h := p.resolve("orders").Handle
		require.Equal(t, uint64(0), p.publish(h, 0, "a", "b"))
		require.Equal(t, uint64(2), p.publish(h, 0, "c\xff\x00"))
		values, reply := p.fetch(wire.Fetch{Handle: h, MaxBytes: 1 << 20})
		require.Equal(t, []string{"a", "b", "c\xff\x00"}, values)
		require.Equal(t, uint64(3), reply.Next)
		require.Equal(t, uint64(3), reply.Visible)
		values, reply = p.fetch(wire.Fetch{Handle: h, From: wire.Position{Value: 3}, MaxBytes: 1 << 20})
		require.Empty(t, values)
		require.Equal(t, uint64(3), reply.Next)
	})
}

func TestPipelinedPublishesShareAcks(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		p := login()
		h := p.resolve("orders").Handle
		var burst []byte
		const n = 500
		for i := range uint32(n) {
			burst = append(burst, request1(wire.OpPublish, 0, 1000+i, publishBody(h, 0, batchOf("x")))...)
		}
		p.write(burst)
		frames := 0
		for next := uint32(0); next < n; frames++ {
			f := p.read()
			require.Equal(t, 1000+next, f.Correlation)
			var reply wire.PublishReply
			require.NoError(t, reply.Parse(f.Body, f.Flags))
			require.Equal(t, uint64(next), reply.Base)
			next += 1 + reply.Extra
		}
		require.Less(t, frames, n)
	})
}

func TestLongPollWaitsForTheNextRecord(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		reader, writer := login(), login()
		h := reader.resolve("orders").Handle
		m := wire.Fetch{Handle: h, MinBytes: 1, MaxBytes: 1 << 20, MaxWaitMs: 10_000}
		id := reader.send(wire.OpFetch, 0, m.Append)
		writer.publish(writer.resolve("orders").Handle, 0, "late")
		f := reader.read()
		require.Equal(t, id, f.Correlation)
		var reply wire.Entries
		require.NoError(t, reply.Parse(f.Body))
		require.Equal(t, []string{"late"}, valuesOf(t, reply.Bytes))
	})
}

func TestSubscriptionGetsBacklogAndLiveRecordsOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		reader, writer := login(), login()
		wh, rh := writer.resolve("orders").Handle, reader.resolve("orders").Handle
		writer.publish(wh, 0, "0", "1")
		m := wire.Subscribe{Handle: rh, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 20}
		id := reader.send(wire.OpSubscribe, 0, m.Append)
		require.Equal(t, wire.OpSubscribe|wire.OpReply, reader.read().Op)
		writer.publish(wh, 0, "2")
		writer.publish(wh, 0, "3")
		var got []string
		for len(got) < 4 {
			f := reader.read()
			require.Equal(t, wire.OpDeliver, f.Op)
			require.Equal(t, id, f.Correlation)
			var e wire.Entries
			require.NoError(t, e.Parse(f.Body))
			got = append(got, valuesOf(t, e.Bytes)...)
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, got)
	})
}

func TestSubscriptionStopsWithoutCredit(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	for range 10 {
		p.publish(h, 0, "0123456789")
	}
	entry := uint32(wire.StampBytes + len(batchOf("0123456789")))
	m := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 3 * entry}
	id := p.send(wire.OpSubscribe, 0, m.Append)
	p.read()
	count := func() (n int) {
		f := p.read()
		for f.Op == wire.OpDeliver {
			var e wire.Entries
			require.NoError(t, e.Parse(f.Body))
			n += len(valuesOf(t, e.Bytes))
			f = p.read()
		}
		require.Equal(t, wire.OpPing|wire.OpReply, f.Op)
		return n
	}
	p.send(wire.OpPing, 0, nil)
	require.Equal(t, 3, count())
	p.send(wire.OpCredit, 0, wire.Credit{Subscription: id, Bytes: 2 * entry}.Append)
	p.send(wire.OpPing, 0, nil)
	require.Equal(t, 2, count())
}

func TestQueueLeasesEachMessageOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		p, other := login(), login()
		h := p.resolve("jobs").Handle
		p.publish(h, 0, "a", "b", "c", "d")
		open := wire.OpenQueue{Handle: h, Group: "workers", Start: wire.Position{Kind: wire.PositionFirst}}
		require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
		first, second := lease(p, h, 2), lease(other, other.resolve("jobs").Handle, 10)
		require.Equal(t, []string{"a", "b"}, valuesOf(t, first.Bytes))
		require.Equal(t, []string{"c", "d"}, valuesOf(t, second.Bytes))

		ack := wire.Settle{Handle: h, Group: []byte("workers"), Ranges: first.Ranges}
		var settled wire.SettleReply
		require.NoError(t, settled.Parse(p.call(wire.OpAck, 0, ack.Append).Body))
		require.Zero(t, settled.Lost)
		require.NoError(t, settled.Parse(p.call(wire.OpAck, 0, ack.Append).Body))
		require.Equal(t, uint32(2), settled.Lost, "an ack counts once")

		require.NoError(t, other.conn.Close())
		again := waitLease(t, p, h)
		require.Equal(t, []string{"c", "d"}, valuesOf(t, again.Bytes), "a dead worker's messages come back")
	})
}

// A worker that ends has its waiting leases answered first, so that what it returns goes to others.
func TestALeaseOfNothingEndsTheWaitsOfItsConnection(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		p := login()
		h := p.resolve("jobs").Handle
		open := wire.OpenQueue{Handle: h, Group: "workers", Start: wire.Position{Kind: wire.PositionFirst}}
		require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
		p.publish(h, 0, "a")
		held := lease(p, h, 1)
		require.Equal(t, []string{"a"}, valuesOf(t, held.Bytes))

		m := wire.Lease{
			Handle: h, Partition: wire.AnyPartition, Group: []byte("workers"),
			MaxMessages: 10, MaxBytes: 1 << 20, MaxWaitMs: 60_000,
		}
		waits := p.send(wire.OpLease, 0, m.Append)
		m.MaxMessages = 0
		ends := p.send(wire.OpLease, 0, m.Append)
		for _, id := range []uint32{waits, ends} {
			f := p.read()
			require.Equal(t, id, f.Correlation)
			var reply wire.Leased
			require.NoError(t, reply.Parse(f.Body))
			require.Empty(t, reply.Ranges)
		}
		back := wire.Settle{Handle: h, Group: []byte("workers"), Ranges: held.Ranges}
		require.Zero(t, p.call(wire.OpNack, wire.FlagUnhandled, back.Append).Flags)
		other := login()
		again := waitLease(t, other, other.resolve("jobs").Handle)
		require.Equal(t, held.Ranges, again.Ranges)
	})
}

// alter changes one setting of a topic.
func (p *peer) alter(topic, key, value string) {
	p.t.Helper()
	m := wire.CreateTopic{Topic: topic, Settings: []wire.Setting{{Key: key, Value: value}}}
	f := p.call(wire.OpAlterTopic, 0, m.Append)
	require.Zero(p.t, f.Flags, "%q", f.Body)
}

// fill publishes messages of a kilobyte to a topic with small segments, which retention can remove.
func (p *peer) fill(topic string) (h uint16) {
	p.t.Helper()
	h = p.resolve(topic).Handle
	p.alter(topic, "segment_bytes", "4096")
	for range 40 {
		p.publish(h, 0, strings.Repeat("x", 1000))
	}
	return h
}

// Retention may be faster than a lease. The worker gets the messages that are left, and no error.
func TestALeaseGoesOnBehindWhatRetentionRemoved(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	p := login(t, srv)
	h := p.fill("jobs")
	open := wire.OpenQueue{Handle: h, Group: "workers", Start: wire.Position{Kind: wire.PositionFirst}}
	require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
	p.alter("jobs", "retention_count", "10")
	part := srv.registry.Topic("jobs").Partition(0)
	for {
		removed := part.First()
		got := lease(p, h, 1)
		if len(got.Ranges) > 0 && got.Ranges[0].First >= removed && removed > 0 {
			return
		}
		back := wire.Settle{Handle: h, Group: []byte("workers"), Ranges: got.Ranges}
		require.Zero(t, p.call(wire.OpNack, wire.FlagUnhandled, back.Append).Flags)
	}
}

func TestALeaseOfWhatWasPurgedMeanwhileIsNoFailure(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	p := login(t, srv)
	h := p.fill("jobs")
	open := wire.OpenQueue{Handle: h, Group: "workers", Start: wire.Position{Kind: wire.PositionFirst}}
	require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
	part := srv.registry.Topic("jobs").Partition(0)
	leases, err := part.Lease(nil, "workers", 1, time.Minute, 1, time.Now())
	require.NoError(t, err)
	require.NoError(t, srv.registry.Purge("jobs", 0, 20))
	var g gatherer
	err = g.gather(part, leases, part.Read)
	require.ErrorIs(t, err, wire.CodeOffsetOutOfRange)
	require.NoError(t, g.settleRest(part, "workers", err, time.Now()))
	require.Equal(t, uint64(20), lease(p, h, 1).Ranges[0].First)
}

// Who waits for the first records gets the first records, even if others were that when the wait began.
func TestAFetchFromTheStartFollowsRetention(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	p, other := login(t, srv), login(t, srv)
	h := p.fill("logs")
	m := wire.Fetch{
		Handle: h, From: wire.Position{Kind: wire.PositionFirst}, MinBytes: 64 << 10, MaxBytes: 1 << 20, MaxWaitMs: 60_000,
	}
	waits := p.send(wire.OpFetch, 0, m.Append)
	p.send(wire.OpPing, 0, nil)
	require.Equal(t, wire.OpPing|wire.OpReply, p.read().Op)
	other.alter("logs", "retention_count", "10")
	part := srv.registry.Topic("logs").Partition(0)
	require.Eventually(t, func() bool { return part.First() > 0 }, waitLimit, time.Millisecond)
	other.alter("logs", "retention_count", "0")
	other.fill("logs")
	other.fill("logs")
	f := p.read()
	require.Equal(t, waits, f.Correlation)
	require.Zero(t, f.Flags, "%q", f.Body)
	var e wire.Entries
	require.NoError(t, e.Parse(f.Body))
	require.Equal(t, e.First+uint64(len(valuesOf(t, e.Bytes))), e.Next)
}

func lease(p *peer, h uint16, n uint32) wire.Leased {
	p.t.Helper()
	m := wire.Lease{Handle: h, Partition: wire.AnyPartition, Group: []byte("workers"), MaxMessages: n, MaxBytes: 1 << 20}
	f := p.call(wire.OpLease, 0, m.Append)
	require.Zero(p.t, f.Flags, "%q", f.Body)
	var reply wire.Leased
	require.NoError(p.t, reply.Parse(f.Body))
	return reply
}

func waitLease(t *testing.T, p *peer, h uint16) wire.Leased {
	t.Helper()
	m := wire.Lease{
		Handle: h, Partition: wire.AnyPartition, Group: []byte("workers"),
		MaxMessages: 10, MaxBytes: 1 << 20, MaxWaitMs: 10_000,
	}
	f := p.call(wire.OpLease, 0, m.Append)
	require.Zero(t, f.Flags, "%q", f.Body)
	var reply wire.Leased
	require.NoError(t, reply.Parse(f.Body))
	return reply
}

func TestCommittedOffsetsAreReadBack(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *Server, login func() *peer) {
		p := login()
		h := p.resolve("orders").Handle
		p.publish(h, 0, "a", "b", "c")
		m := wire.Commit{Handle: h, Group: []byte("audit"), Offsets: []wire.PartitionOffset{{Partition: 0, Offset: 2}}}
		require.Zero(t, p.call(wire.OpCommit, 0, m.Append).Flags)
		var reply wire.CommittedReply
		q := wire.Committed{Handle: h, Group: "audit"}
		require.NoError(t, reply.Parse(p.call(wire.OpCommitted, 0, q.Append).Body))
		require.Len(t, reply.Offsets, 1)
		require.Equal(t, uint64(2), reply.Offsets[0].Offset)
		p.refused(wire.CodeInvalid, wire.OpCommitted, 0, (&wire.Committed{Handle: h}).Append)
		values, _ := p.fetch(wire.Fetch{
			Handle: h, MaxBytes: 1 << 20, Group: "audit", From: wire.Position{Kind: wire.PositionCommitted},
		})
		require.Equal(t, "c", values[len(values)-1])

		m.Offsets[0].Offset = 4
		e := p.refused(wire.CodeOffsetOutOfRange, wire.OpCommit, 0, m.Append)
		require.Equal(t, uint64(3), e.Next)
		m.Offsets = []wire.PartitionOffset{{Offset: 0}, {Offset: 1}}
		p.refused(wire.CodeInvalid, wire.OpCommit, 0, m.Append)
		require.NoError(t, reply.Parse(p.call(wire.OpCommitted, 0, q.Append).Body))
		require.Equal(t, uint64(2), reply.Offsets[0].Offset, "nothing is stored")
	})
}

func TestEverythingIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, Options{Dir: dir})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a", "b")
	m := wire.Commit{Handle: h, Group: []byte("audit"), Offsets: []wire.PartitionOffset{{Offset: 1}}}
	require.Zero(t, p.call(wire.OpCommit, 0, m.Append).Flags)
	require.NoError(t, srv.Shutdown(context.Background()))

	srv = startServer(t, Options{Dir: dir})
	p = login(t, srv)
	h = p.resolve("orders").Handle
	values, _ := p.fetch(wire.Fetch{Handle: h, MaxBytes: 1 << 20})
	require.Equal(t, []string{"a", "b"}, values)
	var reply wire.CommittedReply
	q := wire.Committed{Handle: h, Group: "audit"}
	require.NoError(t, reply.Parse(p.call(wire.OpCommitted, 0, q.Append).Body))
	require.Equal(t, uint64(1), reply.Offsets[0].Offset)
	require.Equal(t, uint64(2), p.publish(h, 0, "c"))
}
