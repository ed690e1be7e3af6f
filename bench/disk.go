package bench

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// bareSync writes size bytes and calls fdatasync, n times, and returns how long each time took, sorted.
// The file is preallocated and removed at the end.
func bareSync(dir string, size, n int) ([]time.Duration, error) {
	f, err := bareFile(dir, 16<<20)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b := make([]byte, size)
	var took []time.Duration
	for i := range n {
		start := time.Now()
		_, err := f.WriteAt(b, int64(i*size)%(16<<20-int64(size)))
		if err = errors.Join(err, dataSync(f)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

// bareGroupCommit returns how many writes of size bytes per second a bare group commit makes durable.
// Each of the writers has one write in flight.
func bareGroupCommit(dir string, writers, size int, d time.Duration) (float64, error) {
	f, err := bareFile(dir, 64<<20)
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	g := &groupCommit{file: f, size: size, wake: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	start := time.Now()
	for range writers {
		wg.Go(func() {
			done := make(chan struct{}, 1)
			for time.Since(start) < d {
				g.join(done)
				<-done
			}
		})
	}
	stop := make(chan error)
	go func() { stop <- g.run() }()
	wg.Wait()
	took := time.Since(start)
	close(g.wake)
	err = <-stop
	return float64(g.written) / took.Seconds(), err
}

// groupCommit writes and syncs in rounds. Writers that join during a round are part of the next one.
type groupCommit struct {
	file    *os.File
	size    int
	wake    chan struct{}
	written int // writes made durable; owned by run until it has returned

	mu      sync.Mutex      // guards waiting
	waiting []chan struct{} // one for each writer of the next round
}

// join adds a writer to the next round. done, which must have room for one value, receives one when the
// round is durable or has failed.
func (g *groupCommit) join(done chan struct{}) {
	g.mu.Lock()
	g.waiting = append(g.waiting, done)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run writes rounds until wake is closed or a round fails.
func (g *groupCommit) run() error {
	var buf []byte
	var at int64
	for range g.wake {
		g.mu.Lock()
		round := g.waiting
		g.waiting = nil
		g.mu.Unlock()
		if len(round) == 0 {
			continue
		}
		need := len(round) * g.size
		buf = slices.Grow(buf[:0], need)[:need]
		if at+int64(need) > 64<<20 {
			at = 0
		}
		_, err := g.file.WriteAt(buf, at)
		err = errors.Join(err, dataSync(g.file))
		at += int64(need)
		g.written += len(round)
		for _, done := range round {
			done <- struct{}{}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
