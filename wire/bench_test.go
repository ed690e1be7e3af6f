package wire

import (
	"fmt"
	"testing"
)

func BenchmarkNextFrame(b *testing.B) {
	var turn []byte
	const frames = 100
	for i := range uint32(frames) {
		var at int
		turn, at = BeginFrame(turn, OpPublish, 0, i)
		turn = EndFrame(append(turn, make([]byte, 150)...), at)
	}
	b.SetBytes(int64(len(turn)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for rest := turn; len(rest) > 0; n++ {
			var ok bool
			var err error
			if _, rest, _, ok, err = NextFrame(rest, MaxFrameBytes); err != nil || !ok {
				b.Fatal(err, ok)
			}
		}
		if n != frames {
			b.Fatal(n)
		}
	}
}

// batchShapes are the size of a value and how many there are in a batch.
var batchShapes = [][2]int{{16, 1}, {128, 1}, {128, 100}, {16, 1000}}

// BenchmarkBuildBatch is what the client does with messages.
func BenchmarkBuildBatch(b *testing.B) {
	for _, shape := range batchShapes {
		b.Run(fmt.Sprintf("%dBx%d", shape[0], shape[1]), func(b *testing.B) {
			var builder BatchBuilder
			r := Record{Key: []byte("customer-17"), Value: make([]byte, shape[0])}
			b.ReportAllocs()
			for b.Loop() {
				builder.Reset()
				for range shape[1] {
					builder.Add(r)
				}
				b.SetBytes(int64(len(builder.Bytes())))
			}
		})
	}
}

// BenchmarkRecords is what a consumer does with a batch.
func BenchmarkRecords(b *testing.B) {
	for _, shape := range batchShapes {
		b.Run(fmt.Sprintf("%dBx%d", shape[0], shape[1]), func(b *testing.B) {
			var builder BatchBuilder
			for range shape[1] {
				builder.Add(Record{Key: []byte("customer-17"), Value: make([]byte, shape[0])})
			}
			batch, err := ParseBatch(builder.Bytes())
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(batch.Raw())))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for _, err := range batch.Records() {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != shape[1] {
					b.Fatal(n)
				}
			}
		})
	}
}
