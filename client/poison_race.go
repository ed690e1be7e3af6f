//go:build race

package client

// poison overwrites memory that returns to a pool. Tests run with -race, and so notice code that
// still reads it.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDD
	}
}
