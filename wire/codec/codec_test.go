package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

var all = []wire.Codec{wire.CodecNone, wire.CodecS2, wire.CodecZstd, wire.CodecLZ4}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func samples() map[string][]byte {
	return map[string][]byte{
		"empty":        {},
		"one byte":     {7},
		"text":         bytes.Repeat([]byte("the quick brown fox "), 500),
		"zeros":        make([]byte, 300<<10),
		"noise":        noise(200 << 10),
		"short noise":  noise(17),
		"small repeat": []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
	}
}

func TestWhatWasCompressedComesBack(t *testing.T) {
	for name, plain := range samples() {
		for _, c := range all {
			t.Run(c.String()+" "+name, func(t *testing.T) {
				packed := Compress([]byte("head"), c, plain)
				require.Equal(t, "head", string(packed[:4]))
				got, err := Decompress([]byte("before"), c, packed[4:], len(plain))
				require.NoError(t, err)
				require.Equal(t, "before"+string(plain), string(got))
			})
		}
	}
}

func TestTheAnnouncedSizeMustBeExact(t *testing.T) {
	plain := bytes.Repeat([]byte("0123456789"), 1000)
	for _, c := range all {
		packed := Compress(nil, c, plain)
		for _, size := range []int{-1, 0, 1, len(plain) - 1, len(plain) + 1, 64 * len(plain), wire.MaxDecompressedBytes + 1} {
			got, err := Decompress([]byte("x"), c, packed, size)
			require.ErrorIs(t, err, ErrData, "%s, size %d", c, size)
			require.Equal(t, "x", string(got))
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	plain := append(bytes.Repeat([]byte("hello hello "), 40), noise(100)...)
	for _, c := range all {
		packed := Compress(nil, c, plain)
		for cut := range packed {
			_, err := Decompress(nil, c, packed[:cut], len(plain))
			require.ErrorIs(t, err, ErrData, "%s cut at %d of %d", c, cut, len(packed))
		}
	}
}

func TestABombIsStoppedAtTheAnnouncedSize(t *testing.T) {
	bomb := make([]byte, wire.MaxDecompressedBytes+1)
	stream := new(bytes.Buffer) // a stream does not announce its size in the frame header
	w, err := zstd.NewWriter(stream)
	require.NoError(t, err)
	_, err = w.Write(bomb)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, stream.Len(), 64<<10)
	for _, size := range []int{100, 1 << 20} {
		_, err := Decompress(nil, wire.CodecZstd, stream.Bytes(), size)
		require.ErrorIs(t, err, ErrData)
	}
	for _, c := range []wire.Codec{wire.CodecS2, wire.CodecLZ4} {
		_, err := Decompress(nil, c, Compress(nil, c, bomb), 1<<20)
		require.ErrorIs(t, err, ErrData)
	}
}

func TestAnUnknownCodecIsRefused(t *testing.T) {
	_, err := Decompress(nil, 9, nil, 0)
	require.ErrorIs(t, err, ErrCodec)
	require.Panics(t, func() { Compress(nil, 9, nil) })
}

func build(t testing.TB, c wire.Codec, values ...string) []byte {
	t.Helper()
	var b wire.BatchBuilder
	for _, v := range values {
		b.Add(wire.Record{Key: []byte("k"), Value: []byte(v)})
	}
	if c == wire.CodecNone {
		return bytes.Clone(b.Bytes())
	}
	return b.AppendCompressed(nil, c, Compress(nil, c, b.Records()))
}

func TestABatchOpensToItsRecords(t *testing.T) {
	want := []string{"one", "two", string(bytes.Repeat([]byte("x"), 5000)), ""}
	for _, c := range all {
		batch, err := wire.ParseBatch(build(t, c, want...))
		require.NoError(t, err)
		buf := make([]byte, 0, 64<<10)
		plain, err := Unpack(batch, buf)
		require.NoError(t, err)
		var got []string
		for r, err := range plain.Records() {
			require.NoError(t, err)
			got = append(got, string(r.Value))
		}
		require.Equal(t, want, got)
		if c != wire.CodecNone {
			records, _ := plain.Packed()
			require.Same(t, &buf[:1][0], &records[0], "unpacks into the buffer it was given")
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, c := range all {
		f.Add(build(f, c, "hello", "hello hello hello hello hello"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := wire.ViewBatch(b)
		if err != nil {
			return
		}
		plain, err := Unpack(batch, nil)
		if err != nil {
			return
		}
		_, size := batch.Packed()
		records, n := plain.Packed()
		if batch.Codec() == wire.CodecNone {
			require.Len(t, records, n)
		}
		require.Len(t, records, size)
		for range plain.Records() {
			continue
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for _, plain := range samples() {
		if len(plain) > 16<<10 {
			continue
		}
		for _, c := range all {
			f.Add(uint8(c), Compress(nil, c, plain), len(plain))
		}
	}
	f.Fuzz(func(t *testing.T, c uint8, packed []byte, size int) {
		got, err := Decompress(nil, wire.Codec(c), packed, size%(1<<20))
		if err == nil {
			require.Len(t, got, size%(1<<20))
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	plain := bytes.Repeat([]byte(`{"id":12345,"name":"alice","amount":99.5}`), 6000)
	for _, c := range all[1:] {
		packed := Compress(nil, c, plain)
		buf := make([]byte, 0, len(plain))
		b.Run("compress "+c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			dst := make([]byte, 0, 2*len(plain))
			for b.Loop() {
				dst = Compress(dst[:0], c, plain)
			}
		})
		b.Run("decompress "+c.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				_, _ = Decompress(buf[:0], c, packed, len(plain))
			}
		})
	}
}
