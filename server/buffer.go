package server

import (
	"math/bits"
	"sync"

	"github.com/valyala/bytebufferpool"
)

// buffer is memory that is taken for one turn or one frame, and put back. Its owner writes to B.
type buffer = bytebufferpool.ByteBuffer

// Buffers are pooled by size: class 0 has room for leastBuffer bytes, each further class for twice as many as the one
// before, and the last one for the largest frame. A bytebufferpool.Pool has one size for all, and drops buffers that are
// larger than most: sessions with much output, which are few, would let a small buffer grow again in every turn.
const (
	leastBuffer   = 512
	bufferClasses = 15
)

// buffers holds those that nobody uses.
var buffers [bufferClasses]sync.Pool

// bufferClass returns the smallest class with room for size bytes, or the last one.
func bufferClass(size int) uint8 {
	return uint8(min(bits.Len(uint(max(size, 1)-1)/leastBuffer), bufferClasses-1))
}

// takeBuffer returns an empty buffer of a class.
func takeBuffer(class uint8) *buffer {
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{B: make([]byte, 0, leastBuffer<<class)}
}

// makeRoom gives a buffer pooled memory with room for size more bytes. append would allocate, and again for each quarter more.
func makeRoom(b *buffer, size int) {
	other := takeBuffer(bufferClass(max(2*cap(b.B), len(b.B)+size)))
	b.B, other.B = append(other.B, b.B...), b.B
	putBuffer(other)
}

// putBuffer takes a buffer back, which may have grown since takeBuffer. Without one it does nothing.
func putBuffer(b *buffer) {
	if b == nil {
		return
	}
	b.B = b.B[:0]
	class := bits.Len(uint(cap(b.B)/leastBuffer)) - 1
	buffers[min(class, bufferClasses-1)].Put(b)
}
