package client

import (
	"math/bits"
	"sync"
)

// buffer holds one frame body that outlives the read it came with.
type buffer struct {
	body []byte
	mem  []byte // the whole memory; of a pooled size, or exact
}

const (
	minPooled = 8  // 256 B: a delivery of one small message
	maxPooled = 23 // 8 MiB: wire.MaxFrameBytes
)

// bufferPool recycles buffers by size class, powers of two. A small body never occupies a large
// buffer, so what is held stays within twice what was received, or 256 bytes each.
type bufferPool struct {
	classes [maxPooled - minPooled + 1]sync.Pool
}

// get returns a buffer with n bytes of memory. Whoever holds it calls put once, or leaves it to the
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

// put takes back a buffer that nobody reads any more.
func (p *bufferPool) put(b *buffer) {
	n := len(b.mem)
	if n < 1<<minPooled || n&(n-1) != 0 {
		return
	}
	b.body = nil
	poison(b.mem)
	p.classes[bits.Len(uint(n))-1-minPooled].Put(b)
}
