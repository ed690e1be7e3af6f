package main

import (
	"context"
	"sync"
)

// mostAhead bounds the requests of one command that are in progress, and what their answers hold.
const mostAhead = 16

// inOrder calls ask with 0 to n-1, several at a time, so that a distant broker is not waited for once for each of them.
// It calls take in the order of the numbers, with the error of each ask, until a take returns an error. It returns that
// error after it has cancelled the asks that are still in progress.
func inOrder(ctx context.Context, n int, ask func(context.Context, int) error, take func(int, error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	answers := make([]chan error, n)
	asked := 0
	for i := range n {
		for ; asked < min(n, i+mostAhead); asked++ {
			at := asked
			answers[at] = make(chan error, 1)
			asking.Go(func() { answers[at] <- ask(ctx, at) })
		}
		if err := take(i, <-answers[i]); err != nil {
			return err
		}
	}
	return nil
}
