package client

import (
	"math/bits"
	"sync"
)

// buffer holds the body of a frame beyond the next read.
type buffer struct {
	body []byte
	mem  []byte // the whole memory: of a pooled size, or exactly as needed
}

const (
	minPooled = 8  // 2^8 = 256 B: a delivery of one small message
	maxPooled = 23 // 2^23 = 8 MiB: wire.MaxFrameBytes; larger frames are rare
)

// bufferPool recycles buffers by size, in powers of two. A buffer has at most twice the size of its
// body, or 256 bytes.
type bufferPool struct {
	classes [maxPooled - minPooled + 1]sync.Pool
}

// get returns a buffer with n bytes of memory. Its owner calls put once, or leaves it to the
// garbage collector.
func (p *bufferPool) get(n int) *buffer {
	class := max(bits.Len(uint(n-1)), minPooled)
	if class > maxPooled {
		return &buffer{mem: make([]byte, n)}
	}
	if b, ok := p.classes[class-minPooled].Get().(*buffer); ok {
		return b
	}
	return &buffer{mem: make([]byte, 1<<class)}
}

// put takes back a buffer. Nothing may refer to its memory.
func (p *bufferPool) put(b *buffer) {
	n := len(b.mem)
	if n < 1<<minPooled || n&(n-1) != 0 {
		return
	}
	b.body = nil
	poison(b.mem)
	p.classes[bits.Len(uint(n))-1-minPooled].Put(b)
}
