//go:build !amd64 || purego

package log

import "github.com/rafka-mq/rafka/wire"

// fillShort may append several entries at once, but only in assembly.
func fillShort(_ []byte, used, _ int, _ [][]byte, _ []uint32, _ *wire.Stamp) (n, end int) {
	return 0, used
}
