package log

import (
	"encoding/binary"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/crc32c"
)

var le = binary.LittleEndian

// chunkAlign is the alignment of chunk headers, so that a search for one after damage is cheap.
const chunkAlign = 8

func align(n int) int { return (n + chunkAlign - 1) &^ (chunkAlign - 1) }

const (
	chunkMagic  = 0x436b6652 // "RfkC"
	headerBytes = 96

	// endBytes of zeros follow the last chunk, to mark the end.
	endBytes = 16
)

type chunkKind uint8

const (
	chunkEntries chunkKind = 1 // entries of one log
	chunkMark    chunkKind = 2 // no entries: only carries synced
)

// chunkHeader describes a run of entries of one log in the commit log. It stands in front of the entries and, as the
// tail copy, behind them, so that one damaged header costs nothing:
//
//	0       4     8        12     13     14     16    24       32      48      52      56      64       72      80       88     96
//	+-------+-----+--------+------+------+------+-----+--------+-------+-------+-------+-------+--------+-------+--------+------+
//	| magic | crc | length | kind | tail | zero | lsn | synced | topic | part. | count | first | first  | next  | next   | prev |
//	|       |     |        |      |      |      |     |        |       |       |       | index | offset | index | offset | term |
//	+-------+-----+--------+------+------+------+-----+--------+-------+-------+-------+-------+--------+-------+--------+------+
//
// crc covers the number of the file and bytes 8 to 96, so that chunks from an earlier use of a recycled file are
// invalid. length is the size of the entries in bytes; they are padded with zeros to a multiple of 8.
type chunkHeader struct {
	length uint32
	kind   chunkKind
	tail   bool
	lsn    uint64 // log sequence number: number of the chunk in the store, increasing by 1
	synced uint64 // chunks with a lower lsn were durable when this one was written
	id     wire.Identity
	count  uint32 // entries
	first  place  // in front of the first entry; its time is not stored
	next   place  // behind the last entry; only offset and index are stored
}

// size returns the size of the whole chunk in bytes.
func (h *chunkHeader) size() int64 { return int64(2*headerBytes + align(int(h.length))) }

// append appends the header. file is the number of the commit log file that it is for.
func (h *chunkHeader) append(dst []byte, file uint64) []byte {
	at := len(dst)
	dst = le.AppendUint32(dst, chunkMagic)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, h.length)
	dst = append(dst, byte(h.kind), 0, 0, 0)
	if h.tail {
		dst[at+13] = 1
	}
	dst = le.AppendUint64(dst, h.lsn)
	dst = le.AppendUint64(dst, h.synced)
	dst = appendIdentity(dst, h.id)
	dst = le.AppendUint32(dst, h.count)
	dst = le.AppendUint64(dst, h.first.index)
	dst = le.AppendUint64(dst, h.first.offset)
	dst = le.AppendUint64(dst, h.next.index)
	dst = le.AppendUint64(dst, h.next.offset)
	dst = le.AppendUint64(dst, h.first.term)
	le.PutUint32(dst[at+4:], chunkChecksum(dst[at:], file))
	return dst
}

func chunkChecksum(b []byte, file uint64) uint32 {
	return seededChecksum(file, b[8:headerBytes])
}

// seededChecksum returns the checksum of the number of a file and b. Bytes from an earlier use of the file, under
// another number, do not match it.
func seededChecksum(file uint64, b []byte) uint32 {
	var seed [8]byte
	le.PutUint64(seed[:], file)
	return crc32c.Update(crc32c.Checksum(seed[:]), b)
}

// parse sets h from the header at the start of b, and reports whether that is an intact header of the file.
func (h *chunkHeader) parse(b []byte, file uint64) bool {
	if len(b) < headerBytes || le.Uint32(b) != chunkMagic || le.Uint32(b[4:]) != chunkChecksum(b, file) {
		return false
	}
	*h = chunkHeader{
		length: le.Uint32(b[8:]), kind: chunkKind(b[12]), tail: b[13] == 1,
		lsn: le.Uint64(b[16:]), synced: le.Uint64(b[24:]), id: parseIdentity(b[32:]), count: le.Uint32(b[52:]),
		first: place{index: le.Uint64(b[56:]), offset: le.Uint64(b[64:]), term: le.Uint64(b[88:])},
		next:  place{index: le.Uint64(b[72:]), offset: le.Uint64(b[80:])},
	}
	return h.length <= 1<<30
}

func appendIdentity(dst []byte, id wire.Identity) []byte {
	dst = append(dst, id.Topic[:]...)
	return le.AppendUint32(dst, id.Partition)
}

func parseIdentity(b []byte) wire.Identity {
	return wire.Identity{Topic: [16]byte(b[:16]), Partition: le.Uint32(b[16:])}
}

const (
	commitMagic   = 0x314c41576b6652 // "RfkWAL1"
	formatVersion = 1
	// commitDataPos is where chunks start. The file header is at 0, and its copy at the end of the first
	// block.
	commitDataPos    = 4096
	commitHeaderSize = 64
	commitHeaderCopy = commitDataPos - commitHeaderSize
	// commitReachPos is the position of the reach; see putReach.
	commitReachPos = 512
	reachSize      = 16
)

// commitHeader is the header of a commit log file:
//
//	0       8         12    16         24          32             40        48     64
//	+-------+---------+-----+----------+-----------+--------------+---------+------+
//	| magic | version | crc | file no. | first lsn | abandon from | created | zero |
//	+-------+---------+-----+----------+-----------+--------------+---------+------+
//
// crc covers the header with zeros in its place.
type commitHeader struct {
	file    uint64 // number of the file, also its name; never used twice
	first   uint64 // lsn of its first chunk
	abandon uint64 // chunks of earlier files from this lsn on do not count: they were given up
	created int64  // in ms since 1970
}

// put writes the header to the start of b, which is zero.
func (h *commitHeader) put(b []byte) {
	b = b[:commitHeaderSize]
	le.PutUint64(b, commitMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], h.file)
	le.PutUint64(b[24:], h.first)
	le.PutUint64(b[32:], h.abandon)
	le.PutUint64(b[40:], uint64(h.created))
	le.PutUint32(b[12:], crc32c.Checksum(b))
}

// parse sets h from b and reports whether b starts with an intact header. The error is ErrVersion for a newer format.
func (h *commitHeader) parse(b []byte) (bool, error) {
	if len(b) < commitHeaderSize || le.Uint64(b) != commitMagic {
		return false, nil
	}
	if !checksumAt(b[:commitHeaderSize], 12) {
		return false, nil
	}
	if le.Uint32(b[8:]) != formatVersion {
		return false, ErrVersion
	}
	*h = commitHeader{
		file: le.Uint64(b[16:]), first: le.Uint64(b[24:]), abandon: le.Uint64(b[32:]),
		created: int64(le.Uint64(b[40:])),
	}
	return true, nil
}

// putReach stores in the first block of a commit log file that no chunk ends behind reach. A larger reach becomes
// durable with or before the first chunk that needs it. A restart reads the file only up to its reach: behind it
// there is nothing, or bytes from an earlier use of the file.
//
//	0       8     12     16
//	+-------+-----+------+
//	| reach | crc | zero |
//	+-------+-----+------+
//
// crc covers the number of the file and reach.
func putReach(block []byte, file uint64, reach int64) {
	b := block[commitReachPos:]
	le.PutUint64(b, uint64(reach))
	le.PutUint32(b[8:], seededChecksum(file, b[:8]))
}

// reachOf returns the reach of a file of size bytes, or size when the reach is missing or damaged. The reach is above
// size when the end of the file was cut off.
func reachOf(block []byte, file uint64, size int64) int64 {
	if len(block) < commitReachPos+reachSize {
		return size
	}
	b := block[commitReachPos:]
	reach := int64(le.Uint64(b))
	if reach < commitDataPos || le.Uint32(b[8:]) != seededChecksum(file, b[:8]) {
		return size
	}
	return reach
}

// checksumAt reports whether b has at pos the checksum of itself with zeros in that place.
func checksumAt(b []byte, pos int) bool {
	var zero [4]byte
	crc := crc32c.Checksum(b[:pos])
	crc = crc32c.Update(crc, zero[:])
	crc = crc32c.Update(crc, b[pos+4:])
	return crc == le.Uint32(b[pos:])
}
