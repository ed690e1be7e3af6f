package client

import (
	"sync"
	"sync/atomic"
)

// mostTogether bounds the requests that together has in progress, so that a topic with many partitions
// does not make all its goroutines at once.
const mostTogether = 64

// together calls f with 0 to n-1, many of them at once: n requests to a distant broker then take about one
// round trip, and not n. It returns the first error in the order of the numbers, and begins no further calls
// after an error.
func together(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	errs := make([]error, n)
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range min(n, mostTogether) {
		wg.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[i] = f(i); errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
