package client

import (
	"context"
	"iter"
	"sync"
	"time"
)

// signal wakes whoever receives from c, now or later. c has a buffer of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// gate is a mutex that is waited for until a context ends.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// enter locks the gate. The error is the cause of ctx when that ends first; a free gate is locked all the same.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g gate) leave() { <-g }

// mostAsked bounds the requests of ahead that are in progress or whose answers wait, and so their memory.
const mostAsked = 16

// ahead calls ask for 0 up to n, up to mostAsked at the same time, and yields what it returns in that order. When the
// iteration ends early, their context ends.
func ahead[T any](ctx context.Context, n int, ask func(ctx context.Context, i int) (T, error)) iter.Seq2[T, error] {
	type answer struct {
		value T
		err   error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var asking sync.WaitGroup
		defer asking.Wait()
		defer cancel()
		answers := make([]chan answer, n)
		asked := 0
		for i := range n {
			for ; asked < min(n, i+mostAsked); asked++ {
				at, came := asked, make(chan answer, 1)
				answers[at] = came
				asking.Go(func() {
					value, err := ask(ctx, at)
					came <- answer{value, err}
				})
			}
			a := <-answers[i]
			answers[i] = nil // what it holds is garbage once it is yielded
			if !yield(a.value, a.err) {
				return
			}
		}
	}
}

// repeat calls do at an interval until ctx ends or stop is called. stop waits for a call in progress.
func repeat(ctx context.Context, every time.Duration, do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(max(every, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
