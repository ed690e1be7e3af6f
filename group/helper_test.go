package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// t0 is the moment at which every scenario starts.
var t0 = time.UnixMilli(1_700_000_000_000)

// openQueue returns a state with one queue that starts at offset 0.
func openQueue(t testing.TB, p Policy) (*State, *Queue) {
	t.Helper()
	s := New()
	require.NoError(t, s.Apply(AppendOpen(nil, "work", 0, p)))
	return s, s.Queue("work")
}

// restart returns the state as a restart finds it.
func restart(t testing.TB, s *State) (*State, *Queue) {
	t.Helper()
	s, err := Restore(s.AppendSnapshot(nil))
	require.NoError(t, err)
	return s, s.Queue("work")
}

// apply applies what a Plan function returned, and requires that it refused lost messages.
func apply(t testing.TB, s *State, lost int) func(cmd []byte, got int) {
	return func(cmd []byte, got int) {
		t.Helper()
		require.Equal(t, lost, got)
		require.NotNil(t, cmd)
		require.NoError(t, s.Apply(cmd))
	}
}

// settle is one range as a slice.
func settle(first uint64, count, attempt uint32) []Settle { return []Settle{{first, count, attempt}} }

// fragment leases n messages in one range each, under the same attempt and for different owners.
func fragment(q *Queue, n int, now time.Time) {
	var leases [1]Lease
	for i := range n {
		q.Lease(leases[:0], 1, uint64(n), 0, uint64(i)+1, now)
	}
}
