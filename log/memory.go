package log

import (
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the alignment of mapped memory that is at least that large, so that the kernel can back it with huge
// pages. With small pages the first copy to every page takes 2.5 us, ten times as long as within a huge page.
const hugePage = 2 << 20

// mapMemory returns n bytes of zeroed memory outside the Go heap, backed by pages already: the first touch of a page
// takes 11-28 us, that of a populated one 0.06-0.6 us. Any whole pages of it may be unmapped separately.
func mapMemory(n int) ([]byte, error) {
	extra := 0
	if n >= hugePage {
		extra = hugePage
	}
	mem, err := reserve(n + extra)
	if err != nil {
		return nil, err
	}
	if extra > 0 {
		head := -int(uintptr(unsafe.Pointer(&mem[0]))) & (hugePage - 1)
		page := os.Getpagesize()
		unmapMemory(mem[:head])
		unmapMemory(mem[min((head+n+page-1)&^(page-1), len(mem)):])
		mem = mem[head : head+n : head+n]
		preferHuge(mem)
	}
	populate(mem)
	return mem, nil
}

// gentlePiece is how much mapGently populates between two pauses of gentlePause. A page that the host of a virtual
// machine had taken back takes 12 us, in which the processor does nothing else: 6 ms for a huge page, 0.2 ms for a piece.
const (
	gentlePiece = 64 << 10
	gentlePause = time.Millisecond
)

// mapGently is mapMemory for those who have time. It populates small pages, and pauses after each piece, so that other
// threads get the processor. Once hurry returns true it no longer pauses.
func mapGently(n int, hurry func() bool) ([]byte, error) {
	mem, err := reserve(n)
	if err != nil {
		return nil, err
	}
	for piece := range slices.Chunk(mem, gentlePiece) {
		populate(piece)
		if !hurry() {
			time.Sleep(gentlePause)
		}
	}
	return mem, nil
}

// reserve maps n bytes of memory without pages.
func reserve(n int) ([]byte, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return unsafe.Slice((*byte)(p), n), nil
}

func unmapMemory(mem []byte) {
	if len(mem) == 0 {
		return
	}
	if err := unix.MunmapPtr(unsafe.Pointer(&mem[0]), uintptr(len(mem))); err != nil {
		panic("log: unmapping memory: " + err.Error())
	}
}

// touch writes to every page of mem, for kernels that cannot populate a range.
func touch(mem []byte) {
	const page = 4096
	for i := 0; i < len(mem); i += page {
		mem[i] = 0
	}
}
