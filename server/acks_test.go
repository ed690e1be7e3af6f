package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// outcomes is what an acknowledger was told.
type outcomes []error

func (o *outcomes) acknowledged(_ *partition.Partition, _ ack, err error) { *o = append(*o, err) }

// A reply that waits for several entries is an error when one of them is, in whatever order they end.
func TestAReplyForSeveralEntriesFailsWithOneOfThem(t *testing.T) {
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		each []error
		want error
	}{
		"all are durable": {[]error{nil, nil, nil}, nil},
		"the first fails": {[]error{failed, nil, nil}, failed},
		"the last fails":  {[]error{nil, nil, failed}, failed},
		"the first counts": {
			[]error{nil, failed, errors.New("later")}, failed,
		},
	} {
		l, told := &loop{pending: len(c.each)}, &outcomes{}
		a := ack{to: told, join: &join{left: len(c.each)}}
		for i, err := range c.each {
			require.Empty(t, *told, "%s: entry %d", name, i)
			l.answer(nil, a, err)
		}
		require.Equal(t, outcomes{c.want}, *told, name)
		require.Zero(t, l.pending, name)
	}
}

// What needs no wait leaves nothing behind that a shutdown would take for a wait that has ended.
func TestAnAckOfLevelMemoryIsAnsweredAtOnce(t *testing.T) {
	l, told := &loop{}, &outcomes{}
	l.awaitLevel(nil, ack{to: told, level: wire.LevelMemory})
	require.Equal(t, outcomes{nil}, *told)
	require.Zero(t, l.pending)
}

// Requests whose replies do not fit the connection wait until its peer reads, and are answered in their order.
func TestRequestsWaitForAPeerThatReadsLater(t *testing.T) {
	srv := startServer(t, Options{})
	writer := login(t, srv)
	h := writer.resolve("orders").Handle
	writer.publish(h, 0, strings.Repeat("v", 1<<20-100))
	p := login(t, srv)
	require.Equal(t, h, p.resolve("orders").Handle)
	const requests = 64
	fetch := wire.Fetch{Handle: h, MaxBytes: 1 << 20}
	var all []byte
	for i := range uint32(requests) {
		all = append(all, request1(wire.OpFetch, 0, i, fetch.Append)...)
	}
	p.write(all)
	require.Eventually(t, func() bool { return srv.unread.Load() > 0 }, waitLimit, waitLimit/10_000)
	for i := range uint32(requests) {
		f := p.read()
		require.Equal(t, wire.OpFetch|wire.OpReply, f.Op)
		require.Zero(t, f.Flags&wire.FlagError)
		require.Equal(t, i, f.Correlation)
		require.Greater(t, len(f.Body), 1<<20-100)
	}
}

// A connection may have so many bytes waiting for the disk. What is over that is refused, and may be sent again.
func TestAConnectionMayHaveSoManyBytesInFlight(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir(), MaxInFlightBytes: 1000})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	var burst []byte
	const n = 10
	for i := range uint32(n) {
		burst = append(burst, request1(wire.OpPublish, 0, 1000+i, publishBody(h, 0, batchOf(strings.Repeat("v", 600))))...)
	}
	p.write(burst)
	stored, busy := 0, 0
	for stored+busy < n {
		f := p.read()
		if f.Flags&wire.FlagError != 0 {
			var e wire.Error
			require.NoError(t, e.Parse(f.Body))
			require.Equal(t, wire.CodeBusy, e.Code)
			busy++
			continue
		}
		var reply wire.PublishReply
		require.NoError(t, reply.Parse(f.Body, f.Flags))
		stored += 1 + int(reply.Extra)
	}
	require.Positive(t, busy)
	require.Positive(t, stored)
	p.publish(h, 0, strings.Repeat("v", 2000)) // one alone may be larger
}
