package log

import "unsafe"

const (
	// streamFrom is the size of a payload from which on it is streamed to its slab.
	streamFrom = 4 << 10
	// cacheLine is what the processor reads and writes at once.
	cacheLine = 64
	// shortLeast and shortMost are the sizes of payloads that are copied word by word, which beats a call of copy.
	shortLeast = 8
	shortMost  = 64
)

// copyIn copies a payload to its place in a slab, and reports whether it was streamed; see streamFence. The memory of
// slabs is used in turn, so mostly it is in no cache. Before a plain copy writes to a line, the processor reads that, which
// takes longer than the copy, and displaces what the event loop works with.
func copyIn(dst, payload []byte) (streamed bool) {
	if len(payload) < streamFrom || !hasStream {
		copy(dst, payload)
		return false
	}
	stream(dst, payload)
	return true
}

// copyWords is copy for buffers of the same size, at least 8 bytes. The last word may overlap the one before.
func copyWords(dst, src []byte) {
	le.PutUint64(dst[len(dst)-8:], le.Uint64(src[len(src)-8:]))
	for len(src) > 8 && len(dst) > 8 { // both, which spares checks of bounds
		le.PutUint64(dst, le.Uint64(src))
		src, dst = src[8:], dst[8:]
	}
}

// stream is copy for at least streamFrom bytes. The first four are in the cache then, because the stamp's checksum covers
// them.
func stream(dst, src []byte) {
	head := 4 + -int(uintptr(unsafe.Pointer(&dst[4])))&(cacheLine-1)
	tail := len(src) - (len(src)-head)&(cacheLine-1)
	copy(dst[:head], src)
	streamLines(dst[head:tail], src[head:tail])
	copy(dst[tail:], src[tail:])
}
