//go:build !race

package server

// raceEnabled says that the race detector runs. It makes sync.Pool drop buffers at random, so
// allocations cannot be counted then.
const raceEnabled = false
