package crc32c

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheSumIsThatOfHashCRC32(t *testing.T) {
	const most = 1200
	b := random(most + 9)
	for n := range most + 1 {
		for at := range 9 {
			is := b[at : at+n]
			require.Equal(t, crc32.Checksum(is, castagnoli), Checksum(is), "%d bytes at %d", n, at)
			for _, sum := range []uint32{1, 0x80000000, 0xffffffff} {
				require.Equal(t, crc32.Update(sum, castagnoli, is), Update(sum, is), "%d bytes at %d behind %x", n, at, sum)
			}
		}
	}
}

// The check value of the polynomial, and the vectors of RFC 3720.
func TestKnownSums(t *testing.T) {
	f := func(want uint32, b []byte) { require.Equal(t, want, Checksum(b), "%x", b) }
	f(0, nil)
	f(0xe3069283, []byte("123456789"))
	b := make([]byte, 32)
	f(0x8a9136aa, b)
	for i := range b {
		b[i] = 0xff
	}
	f(0x62a8ab43, b)
	for i := range b {
		b[i] = byte(i)
	}
	f(0x46dd794e, b)
}

func TestChecksumsAreJoined(t *testing.T) {
	b := random(70_000)
	for _, n := range []int{0, 1, 2, 7, 8, 63, 1024, 4095, 65_536, 70_000} {
		for _, at := range []int{0, 1, n / 2, n} {
			at = min(at, n)
			is := Join(Checksum(b[:at]), Checksum(b[at:n]), n-at)
			require.Equal(t, Checksum(b[:n]), is, "%d of %d", at, n)
		}
	}
}

func TestSumsOfManyAreThoseOfEach(t *testing.T) {
	b := random(300)
	for _, skip := range []int{0, 4} {
		var bufs [][]byte
		var sums, want []uint32
		for n := skip; n < 200; n++ {
			bufs = append(bufs, b[n%9:n%9+n])
			sums = append(sums, uint32(n)*0x9e3779b9)
			want = append(want, Update(sums[len(sums)-1], b[n%9+skip:n%9+n]))
		}
		sums = append(sums, 7)
		UpdateEach(sums, bufs, skip)
		require.Equal(t, append(want, 7), sums)
		UpdateEach(sums, nil, skip)
		require.Equal(t, append(want, 7), sums)
	}
}

func TestHeadsAreSealed(t *testing.T) {
	var b []byte
	var at []int
	for n := 4; n < 200; n++ {
		at = append(at, len(b))
		piece := random(HeadBytes + n)
		binary.LittleEndian.PutUint32(piece[4:], uint32(n))
		b = append(b, piece...)
	}
	want := append([]byte(nil), b...)
	for _, pos := range at {
		binary.LittleEndian.PutUint32(want[pos:], Update(77, want[pos+4:pos+HeadBytes+4]))
	}
	SealHeads(b, 77)
	require.Equal(t, want, b)
	SealHeads(nil, 77)
}

func FuzzUpdate(f *testing.F) {
	f.Add([]byte(nil), uint8(0))
	f.Add([]byte("123456789"), uint8(4))
	f.Add(random(150), uint8(63))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		at := min(int(cut), len(b))
		want := crc32.Checksum(b, castagnoli)
		require.Equal(t, want, Checksum(b))
		require.Equal(t, want, Update(Checksum(b[:at]), b[at:]))
		require.Equal(t, want, Join(Checksum(b[:at]), Checksum(b[at:]), len(b)-at))
	})
}

// BenchmarkUpdate sums what is not aligned, as batches are not. 22 bytes are a batch of a record of 16, 48
// what the checksum of a stamp covers.
func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{4, 22, 48, 63, 134, 256, 300, 512, 1024, 16 << 10, 256 << 10} {
		buf := random(size + 2)[2:]
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			sum := uint32(0)
			for b.Loop() {
				sum = Update(sum, buf)
			}
		})
		b.Run(fmt.Sprintf("%dB/hash/crc32", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			sum := uint32(0)
			for b.Loop() {
				sum = crc32.Update(sum, castagnoli, buf)
			}
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}
