package partition

import (
	"encoding/binary"
	"testing"
)

// BenchmarkSnapshotOfIDs is what the snapshot of a partition that remembers a million message ids takes:
// in capture while publishers wait, in encode while they do not.
func BenchmarkSnapshotOfIDs(b *testing.B) {
	var ps producers
	for i := range uint64(maxIDs) {
		var id digest
		binary.LittleEndian.PutUint64(id[:], i*0x9e3779b97f4a7c15)
		ps.ids.add(id, place{i, i}, 1_763_800_000_000)
	}
	b.Run("capture", func(b *testing.B) {
		for range b.N {
			ps.appendSnapshot(nil, nil)
			ps.ids.live()
		}
	})
	b.Run("encode", func(b *testing.B) {
		for range b.N {
			appendIDs(nil, ps.ids.live())
		}
	})
}
