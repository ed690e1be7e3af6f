// Package codec compresses and decompresses the records of a batch. It is separate from package wire because
// it needs libraries.
//
// Its functions are pure and safe for concurrent use:
//
//	packed := codec.Compress(nil, wire.CodecS2, builder.Records())
//	out := builder.AppendCompressed(nil, wire.CodecS2, packed)
//	batch, err := wire.ParseBatch(out)
//	batch, err = codec.Unpack(batch, nil) // batch.Records() now walks the plain records
//
// Decompression never produces more than the size that the batch announces, which is at most
// wire.MaxDecompressedBytes. A decompression bomb, a wrong size and data that is cut short are all ErrData.
package codec

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/rafka-mq/rafka/wire"
)

// ErrData is returned by Decompress and Unpack for compressed bytes that do not decompress to exactly the
// announced size, or whose announced size is over wire.MaxDecompressedBytes.
var ErrData = errors.New("codec: damaged compressed records")

// ErrCodec is returned by Decompress and Unpack for a codec this version does not know.
var ErrCodec = errors.New("codec: unknown codec")

// lz4MaxRatio is the highest compression ratio of an LZ4 block: every length byte adds at most 255 bytes.
const lz4MaxRatio = 255

// The zstd coders keep no state between calls. Each takes a few hundred kilobytes, so it is made once, when it
// is first needed.
var (
	zstdEncoder = sync.OnceValue(newZstdEncoder)
	zstdDecoder = sync.OnceValue(newZstdDecoder)
)

func newZstdEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("codec: zstd encoder options: " + err.Error())
	}
	return e
}

func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(wire.MaxDecompressedBytes),
		zstd.WithDecoderMaxWindow(wire.MaxDecompressedBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("codec: zstd decoder options: " + err.Error())
	}
	return d
}

// Compress appends the compressed records to dst and returns the extended slice. With
// wire.CodecNone it appends them as they are. It panics for an unknown codec: that is the caller's
// bug. It keeps no reference to records.
func Compress(dst []byte, c wire.Codec, records []byte) []byte {
	switch c {
	case wire.CodecNone:
		return append(dst, records...)
	case wire.CodecS2:
		dst, room := grow(dst, s2.MaxEncodedLen(len(records)))
		return dst[:len(dst)+len(s2.Encode(room, records))]
	case wire.CodecZstd:
		return zstdEncoder().EncodeAll(records, dst)
	case wire.CodecLZ4:
		return compressLZ4(dst, records)
	}
	panic(fmt.Sprintf("codec: compress with unknown codec %d", c))
}

func compressLZ4(dst, records []byte) []byte {
	dst, room := grow(dst, lz4.CompressBlockBound(len(records)))
	n, err := lz4.CompressBlock(records, room, nil)
	if err != nil {
		panic("codec: lz4 with room for the worst case: " + err.Error())
	}
	return dst[:len(dst)+n]
}

// grow makes sure that n bytes fit behind dst, and returns dst and those bytes.
func grow(dst []byte, n int) (grown, room []byte) {
	if cap(dst)-len(dst) < n {
		bigger := make([]byte, len(dst), len(dst)+n)
		copy(bigger, dst)
		dst = bigger
	}
	return dst, dst[len(dst) : len(dst)+n : len(dst)+n]
}

// Decompress appends to dst the decompressed form of packed, which must have size bytes, and returns the extended
// slice. With an error, ErrData or ErrCodec, it returns dst as it was. It keeps no reference to packed.
func Decompress(dst []byte, c wire.Codec, packed []byte, size int) ([]byte, error) {
	if size < 0 || size > wire.MaxDecompressedBytes {
		return dst, ErrData
	}
	switch c {
	case wire.CodecNone:
		if len(packed) != size {
			return dst, ErrData
		}
		return append(dst, packed...), nil
	case wire.CodecS2:
		return inflate(dst, size, packed, decodeS2)
	case wire.CodecZstd:
		return inflate(dst, size, packed, decodeZstd)
	case wire.CodecLZ4:
		if size > lz4MaxRatio*len(packed) {
			return dst, ErrData
		}
		return inflate(dst, size, packed, decodeLZ4)
	}
	return dst, ErrCodec
}

// inflate decodes into exactly size bytes behind dst. decode must not write outside its second
// argument.
func inflate(dst []byte, size int, packed []byte, decode func(src, dst []byte) (int, error)) ([]byte, error) {
	grown, room := grow(dst, size)
	n, err := decode(packed, room)
	if err != nil || n != size {
		return dst, ErrData
	}
	return grown[:len(grown)+size], nil
}

func decodeS2(src, dst []byte) (int, error) {
	if n, err := s2.DecodedLen(src); err != nil || n != len(dst) {
		return 0, ErrData
	}
	out, err := s2.Decode(dst, src)
	return len(out), err
}

func decodeZstd(src, dst []byte) (int, error) {
	out, err := zstdDecoder().DecodeAll(src, dst[:0:len(dst)])
	return len(out), err
}

func decodeLZ4(src, dst []byte) (int, error) {
	if len(dst) == 0 {
		dst = make([]byte, 1) // the block decoder faults on an empty destination
	}
	return lz4.UncompressBlock(src, dst)
}

// Unpack returns b with decompressed records, and an uncompressed b as it is. It decompresses into the memory of
// buf, or into new memory when the capacity of buf is too small; the result is a view of that. It does not check
// the records. The error is ErrData or ErrCodec.
func Unpack(b wire.Batch, buf []byte) (wire.Batch, error) {
	if b.Codec() == wire.CodecNone {
		return b, nil
	}
	packed, size := b.Packed()
	records, err := Decompress(buf[:0], b.Codec(), packed, size)
	if err != nil {
		return wire.Batch{}, err
	}
	return b.Unpacked(records)
}
