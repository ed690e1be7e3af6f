package crash

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const erasedTopic = "erased"

// erased is what must be true of a topic that one goroutine purges, deletes and creates again all the time.
type erased struct {
	life   int    // how often the creation was asked for
	exists bool   // as far as was answered
	unsure bool   // a creation or deletion was not answered
	next   uint64 // number of the next record

	mu    sync.Mutex // guards the fields below
	sent  map[string]bool
	parts [partitions]erasedPartition
}

type erasedPartition struct {
	acked      map[uint64]string // by offset
	end        uint64            // behind the last acknowledged record
	low, tried uint64            // below low is nothing since a purge was answered; one below tried was asked for
}

// begin notes that the topic is created.
func (e *erased) begin() {
	e.life, e.sent = e.life+1, map[string]bool{}
	for p := range e.parts {
		e.parts[p] = erasedPartition{acked: map[uint64]string{}}
	}
}

// erase works on the topic until ctx ends or the broker is gone.
func erase(ctx context.Context, c *client.Client, e *erased, rng *rand.Rand) {
	for ctx.Err() == nil && !e.unsure {
		switch {
		case !e.exists:
			e.begin()
			_, err := c.CreateTopic(ctx, erasedTopic, client.TopicOptions{Partitions: partitions})
			e.exists, e.unsure = err == nil, err != nil
		case rng.IntN(8) == 0:
			err := c.DeleteTopic(ctx, erasedTopic)
			e.exists, e.unsure = err != nil, err != nil
		default:
			e.fill(ctx, c, rng)
			e.purge(ctx, c, rng)
		}
	}
}

// fill publishes some records and notes which were acknowledged.
func (e *erased) fill(ctx context.Context, c *client.Client, rng *rand.Rand) {
	var wg sync.WaitGroup
	for range 1 + rng.IntN(20) {
		id := fmt.Sprintf("%d.%d", e.life, e.next)
		e.next++
		e.sent[id] = true
		m := &client.Message{Topic: erasedTopic, Key: []byte(id), Value: value(id, rng)}
		wg.Go(func() {
			r, err := c.Publish(ctx, m)
			if err != nil {
				return
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			p := &e.parts[r.Partition]
			p.acked[r.Offset], p.end = id, max(p.end, r.Offset+1)
		})
	}
	wg.Wait()
}

// purge removes some messages of one partition, or all of all.
func (e *erased) purge(ctx context.Context, c *client.Client, rng *rand.Rand) {
	if rng.IntN(4) == 0 {
		for p := range e.parts {
			e.parts[p].tried = math.MaxUint64
		}
		if c.PurgeTopic(ctx, erasedTopic, client.AllPartitions, client.PurgeAll) != nil {
			return
		}
		for p := range e.parts {
			e.parts[p].low = e.parts[p].end
		}
		return
	}
	n := rng.IntN(partitions)
	p := &e.parts[n]
	if p.end == p.low {
		return
	}
	before := p.low + 1 + rng.Uint64N(p.end-p.low)
	p.tried = max(p.tried, before)
	if c.PurgeTopic(ctx, erasedTopic, n, before) == nil {
		p.low = before
	}
}

// verify looks whether what was answered is true, and settles what was not answered.
func (e *erased) verify(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	info, err := c.Topic(ctx, erasedTopic)
	if errors.Is(err, wire.CodeTopicNotFound) {
		require.True(t, e.unsure || !e.exists, "the topic that is purged is gone")
		e.exists, e.unsure = false, false
		return
	}
	require.NoError(t, err)
	require.True(t, e.unsure || e.exists, "the topic that was deleted is back")
	e.exists, e.unsure = true, false
	require.Len(t, info.Partitions, partitions)
	for n := range e.parts {
		e.verifyPartition(ctx, t, c, n, info.Partitions[n])
	}
}

func (e *erased) verifyPartition(ctx context.Context, t *testing.T, c *client.Client, n int, info wire.PartitionInfo) {
	t.Helper()
	p := &e.parts[n]
	require.GreaterOrEqual(t, info.First, p.low, "partition %d: purged records are back", n)
	require.LessOrEqual(t, info.First, p.tried, "partition %d: more is gone than was purged", n)
	require.GreaterOrEqual(t, info.Visible, p.end, "partition %d: records are missing at the end", n)
	for next := info.First; next < info.Visible; {
		f, err := c.Fetch(ctx, client.FetchRequest{Topic: erasedTopic, Partition: n, From: client.At(next)})
		require.NoError(t, err)
		require.NotEmpty(t, f.Messages)
		for _, m := range f.Messages {
			require.Equal(t, next, m.Offset, "offsets have a gap")
			id := idOf(t, m.Value)
			require.True(t, e.sent[id], "record %s was never sent to this topic", id)
			require.Contains(t, []string{"", id}, p.acked[next], "partition %d, offset %d", n, next)
			next++
		}
	}
	p.low, p.end = info.First, info.Visible
}
