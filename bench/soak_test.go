package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

func TestASoakLosesNothingAndSamples(t *testing.T) {
	var seen int
	r, err := Soak(t.Context(), SoakConfig{
		Program: program(t), Dir: t.TempDir(), Duration: 1600 * time.Millisecond, Interval: 200 * time.Millisecond,
		Progress: func(SoakSample) { seen++ },
	})
	require.NoError(t, err)
	require.NotEmpty(t, r.Samples)
	require.Len(t, r.Samples, seen)
	require.Len(t, r.Flows, 5)
	for _, f := range r.Flows {
		require.Positive(t, f.Most, f.Name)
		require.Equal(t, f.Most/2, f.Rate, f.Name)
	}
	for _, s := range r.Samples {
		require.Positive(t, s.Resident)
	}
	require.Contains(t, r.Markdown(), "| stream |")
	require.Contains(t, r.Text(), "deliver p99")
}

func TestASoakThatGrowsIsNotFlat(t *testing.T) {
	var r SoakReport
	require.False(t, r.Flat(), "nothing was seen")
	for i := range 20 {
		r.Samples = append(r.Samples, SoakSample{Resident: 100, GCShare: 0.01, CPU: 1, AckP99: 200, ReadP99: 300, DiskP99: 900, At: float64(i)})
	}
	r.judge()
	require.Len(t, r.Trends, 6)
	require.True(t, r.Flat())
	for i := range r.Samples {
		r.Samples[i].Resident += 3 * float64(i)
	}
	r.Trends = nil
	r.judge()
	require.False(t, r.Flat())
	require.False(t, r.Trends[0].Flat, r.Trends[0].Name)
	require.True(t, r.Trends[3].Flat, r.Trends[3].Name)
}

func TestASoakIsRefusedWhatItCannotJudge(t *testing.T) {
	_, err := Soak(t.Context(), SoakConfig{Duration: time.Second, Interval: time.Second})
	require.ErrorContains(t, err, "8 intervals")
	_, err = Soak(t.Context(), SoakConfig{Share: 2})
	require.ErrorContains(t, err, "share")
}

func TestAFlowSeesWhatIsLost(t *testing.T) {
	next := firstOf(2)
	message := func(seq int64, partition int) *client.Message {
		value := make([]byte, valueHead)
		stamp(value, seq, time.Now())
		return &client.Message{Value: value, Partition: partition}
	}
	require.NoError(t, inOrder(next, message(0, 0), 2))
	require.NoError(t, inOrder(next, message(1, 1), 2))
	require.NoError(t, inOrder(next, message(2, 0), 2))
	require.ErrorContains(t, inOrder(next, message(2, 0), 2), "message 2 of partition 0: expected message 4")
	require.ErrorContains(t, inOrder(next, message(5, 1), 2), "message 5 of partition 1: expected message 3")

	f := &flow{name: "lossy", size: valueHead, window: 10, readers: []*reader{{}}}
	f.publish = func(_ context.Context, _ int64, _ []byte, done func(error)) error { done(nil); return nil }
	f.flush = func(context.Context) error { return nil }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, f.run(ctx, time.Hour, 0), context.DeadlineExceeded, "its reader sees nothing")
}

func TestPlainMetrics(t *testing.T) {
	got, err := plainMetrics(strings.NewReader("# HELP a b\na 1.5e3\nb{c=\"d\"} 7\nc 2\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a": 1500, "c": 2}, got)
	_, err = plainMetrics(strings.NewReader("a x\n"))
	require.ErrorContains(t, err, "metric a")
}

func TestAnAcknowledgementAllocatesNothing(t *testing.T) {
	var f flow
	require.Zero(t, testing.AllocsPerRun(100, func() { f.ack(nil) }))
	require.NoError(t, f.err())
	f.ack(context.Canceled)
	require.ErrorIs(t, f.err(), context.Canceled)
}
