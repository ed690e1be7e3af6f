//go:build !purego

package log

const hasStream = true

// streamLines copies src to dst without bringing dst to the processor's cache. src has whole cache lines, at least one, and
// dst begins with a line.
//
//go:noescape
func streamLines(dst, src []byte)

// streamFence must come between streamLines and whatever tells others that they may read: an unlock does not order these
// writes.
func streamFence()
