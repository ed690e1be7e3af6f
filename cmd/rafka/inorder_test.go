package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnswersAreTakenInOrder(t *testing.T) {
	const n, bad = 3 * mostAhead, mostAhead + 5
	var now, most atomic.Int64
	all, later := make(chan struct{}), make(chan struct{})
	var took []int
	err := inOrder(t.Context(), n, func(ctx context.Context, i int) error {
		if k := now.Add(1); k == mostAhead && most.Swap(k) == 0 {
			close(all) // as many as may be are in progress
		} else if k > mostAhead {
			most.Store(k)
		}
		defer now.Add(-1)
		<-all
		switch i {
		case bad:
			<-later // the error that comes first is not the first one in order
		case bad + 1:
			close(later)
		}
		if i >= bad {
			return fmt.Errorf("call %d", i)
		}
		return nil
	}, func(i int, err error) error {
		took = append(took, i)
		return err
	})
	require.EqualError(t, err, fmt.Sprintf("call %d", bad))
	require.Len(t, took, bad+1)
	require.IsIncreasing(t, took)
	require.EqualValues(t, mostAhead, most.Load())
}

func TestAsksAreCancelledWhenEnoughIsTaken(t *testing.T) {
	enough := errors.New("enough")
	err := inOrder(t.Context(), 10, func(ctx context.Context, i int) error {
		if i > 0 {
			<-ctx.Done()
		}
		return ctx.Err()
	}, func(int, error) error { return enough })
	require.Equal(t, enough, err)
	require.NoError(t, inOrder(t.Context(), 0, nil, nil))
}
