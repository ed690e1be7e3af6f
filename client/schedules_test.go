package client

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A list that has all that wait is not asked for again. The others are, until one is empty.
func TestFewScheduledMessagesAreListedByOneRequest(t *testing.T) {
	const waiting = 5
	for page, requests := range map[uint64]int{waiting: 1, 2: 4} {
		b := startBroker(t)
		b.create("t", 1)
		b.setHook(func(c *fakeConn, f wire.Frame) bool {
			if f.Op != wire.OpSchedules {
				return false
			}
			var m wire.Schedules
			require.NoError(t, m.Parse(f.Body))
			var bb wire.BatchBuilder
			bb.Add(wire.Record{Value: []byte("x")})
			list := wire.ScheduleList{Total: waiting}
			for id := m.AfterID + 1; id <= min(m.AfterID+page, waiting); id++ {
				list.Items = append(list.Items, wire.ScheduleInfo{ID: id, Due: int64(id), Batch: slices.Clone(bb.Bytes())})
			}
			c.reply(f, 0, list.Append(nil))
			return true
		})
		c := dial(t, b, Options{})
		var ids []uint64
		for s, err := range c.Schedules(within(t), "t", AllPartitions) {
			require.NoError(t, err)
			ids = append(ids, s.ID)
		}
		require.Equal(t, []uint64{1, 2, 3, 4, 5}, ids)
		require.Equal(t, requests, b.count(wire.OpSchedules))
	}
}

// Partitions are asked about together, and their messages come in the order of the partitions all the same.
func TestScheduledMessagesOfManyPartitionsAreListedTogether(t *testing.T) {
	const parts = 2 * mostAsked
	b := startBroker(t)
	b.create("t", parts)
	var mu sync.Mutex
	var waiting []wire.Frame
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != wire.OpSchedules {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		f.Body = bytes.Clone(f.Body)
		if waiting = append(waiting, f); len(waiting) < mostAsked {
			return true
		}
		for _, f := range slices.Backward(waiting) {
			var m wire.Schedules
			require.NoError(t, m.Parse(f.Body))
			var bb wire.BatchBuilder
			bb.Add(wire.Record{Value: []byte("x")})
			list := wire.ScheduleList{Total: 1, Items: []wire.ScheduleInfo{{ID: uint64(m.Partition) + 1, Batch: bb.Bytes()}}}
			c.reply(f, 0, list.Append(nil))
		}
		waiting = nil
		return true
	})
	c := dial(t, b, Options{})
	next := 0
	for s, err := range c.Schedules(within(t), "t", AllPartitions) {
		require.NoError(t, err)
		require.Equal(t, next, s.Partition)
		require.EqualValues(t, next+1, s.ID)
		next++
	}
	require.Equal(t, parts, next)
	for range c.Schedules(within(t), "t", AllPartitions) {
		break // the requests that are not answered do not hold it up
	}
}
