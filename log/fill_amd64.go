//go:build !purego

package log

import (
	"unsafe"

	"github.com/rafka-mq/rafka/wire"
)

// fillShort appends entries to mem from position used on, up to the first one whose payload is not short, that does not
// begin in front of due, or behind which there may be no room for the largest short one. It returns how many they are and
// where they end, and sets st to the place behind them. The stamps have no checksums yet. It is in assembly because the
// compiler keeps most of what the loop needs in memory: an entry takes 11 instead of 17 ns.
func fillShort(mem []byte, used, due int, payloads [][]byte, counts []uint32, st *wire.Stamp) (n, end int) {
	last := min(due-1, len(mem)-wire.StampBytes-shortMost)
	if used > last || len(payloads) == 0 {
		return 0, used
	}
	counts = counts[:len(payloads)]
	base := unsafe.Pointer(unsafe.SliceData(mem))
	var head [wire.StampBytes]byte
	st.PutFields(head[:])
	left, stop := fillEntries(
		unsafe.Add(base, used), unsafe.Add(base, last), &payloads[0], &counts[0], len(payloads), &head)
	st.View(head[:])
	return len(payloads) - left, int(uintptr(stop) - uintptr(base))
}

// fillEntries is fillShort for n payloads, at least one. The first entry begins at at, and none behind last. head is the
// stamp of the first entry, without size and count, and then that of the entry behind the last one. It returns how many
// payloads are left, and the end of the last entry.
//
//go:noescape
func fillEntries(at, last unsafe.Pointer, payloads *[]byte, counts *uint32, n int, head *[wire.StampBytes]byte) (left int, end unsafe.Pointer)
