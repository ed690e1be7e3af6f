package log

import (
	"fmt"
	"os"
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
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n+extra), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	mem := unsafe.Slice((*byte)(p), n+extra)
	if extra > 0 {
		head := -int(uintptr(p)) & (hugePage - 1)
		page := os.Getpagesize()
		unmapMemory(mem[:head])
		unmapMemory(mem[min((head+n+page-1)&^(page-1), len(mem)):])
		mem = mem[head : head+n : head+n]
		preferHuge(mem)
	}
	populate(mem)
	return mem, nil
}

func unmapMemory(mem []byte) {
	if len(mem) == 0 {
		return
	}
	if err := unix.MunmapPtr(unsafe.Pointer(&mem[0]), uintptr(len(mem))); err != nil {
		panic("log: unmapping memory: " + err.Error())
	}
}

// touch writes to every page of b, for kernels that cannot populate a range.
func touch(mem []byte) {
	const page = 4096
	for i := 0; i < len(mem); i += page {
		mem[i] = 0
	}
}
