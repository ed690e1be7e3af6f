package log

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/crc32c"
)

const (
	partitionsDir = "partitions"
	segmentExt    = ".seg"

	segmentMagic  = 0x314745536b6652 // "RfkSEG1"
	footerMagic   = 0x31444e456b6652 // "RfkEND1"
	segmentHeader = 96
	footerTrailer = 96
	markSize      = 40

	// segmentMarkBytes is the distance of a segment's index entries. A lookup reads at most this
	// much in vain; 64 MiB have 4,096 entries of 40 bytes.
	segmentMarkBytes = 16 << 10

	// maxStateBytes bounds the owner's state in a header or checkpoint, so that a length read from a
	// damaged file reserves no absurd amount.
	maxStateBytes = 256 << 20
)

var (
	errSegmentHeader = errors.New("segment header is damaged")
	errFooter        = errors.New("segment footer is damaged")
	errNoFooter      = errors.New("segment has no footer")
	errEntry         = errors.New("entry does not match its checksum")
)

// snapshot is the owner's state with the index of the last entry it includes; 0 is none.
type snapshot struct {
	blob  []byte
	index uint64
}

// segment is a file with entries of one log. The last one of a log is active: the checkpoint says
// how far it counts. The others are sealed by a footer.
//
// The fields are guarded by the log's mutex and changed only by the holder of Store.filing.
type segment struct {
	path  string
	start place // of its first entry; term and time are those of the entry before, when known
	end   place // of an active segment, or one sealed since the store was opened
	size  int64 // bytes in the file that count
	data  int64 // where entries start; 0 when not known yet
	first int64 // append time of the first entry, ms; 0 when not known
	last  int64 // append time of the last entry, once somebody had to read it, ms; guarded by Log.mu

	compacted bool // made by compaction; its name says where it ends
	barred    bool // compaction found damage in it and leaves it alone

	indexed bool   // marks cover everything up to size
	marks   []mark // of an active segment; those of sealed ones are loaded when needed
}

func segmentName(at place) string {
	return fmt.Sprintf("%020d-%020d%s", at.offset, at.index, segmentExt)
}

// compactedName returns the name of a segment that compaction made of the entries in [at, end). The
// end in the name says, without a look into files, which other segments it replaces.
func compactedName(at place, end uint64) string {
	return fmt.Sprintf("%020d-%020d-%020d%s", at.offset, at.index, end, segmentExt)
}

// parseSegmentName returns where the segment of this name starts, and for one that compaction made the
// index behind its last entry, else 0.
func parseSegmentName(name string) (at place, end uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentExt)
	parts := strings.Split(digits, "-")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return place{}, 0, false
	}
	var n [3]uint64
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 64)
		if err != nil || len(part) != 20 {
			return place{}, 0, false
		}
		n[i] = v
	}
	ok = n[1] >= firstIndex && (len(parts) == 2 || n[2] > n[1])
	return place{offset: n[0], index: n[1]}, n[2], ok
}

// listSegments returns the segments among the files of a log's directory in order, and the paths of
// all others: unfinished files, and segments that compaction replaced but could not unlink any more.
func listSegments(dir string, files []DirEntry) (segments []*segment, junk []string) {
	covered := uint64(0) // entries below are in a compacted segment that was seen
	for _, d := range files {
		at, end, ok := parseSegmentName(d.Name)
		name := path.Join(dir, d.Name)
		if !ok {
			junk = append(junk, name)
			continue
		}
		seg := &segment{path: name, start: at, size: d.Size, compacted: end != 0}
		last := len(segments) - 1
		switch {
		case last >= 0 && segments[last].start.index == at.index && end > covered:
			// Both begin here: the larger one was made of the smaller one.
			junk = append(junk, segments[last].path)
			segments[last], covered = seg, end
		case at.index < covered:
			junk = append(junk, name)
		default:
			segments = append(segments, seg)
			covered = max(covered, end)
		}
	}
	return segments, junk
}

// logDir returns the name of the directory of a log: its topic as a UUID, and its partition.
func logDir(id wire.Identity) string {
	t := id.Topic
	return fmt.Sprintf("%x-%x-%x-%x-%x-%d", t[:4], t[4:6], t[6:8], t[8:10], t[10:], id.Partition)
}

// parseLogDir returns the identity of a log's directory.
func parseLogDir(name string) (wire.Identity, bool) {
	const uuid = 36
	if len(name) < uuid+2 || name[uuid] != '-' {
		return wire.Identity{}, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(name[:uuid], "-", ""))
	n, err2 := strconv.ParseUint(name[uuid+1:], 10, 32)
	if err != nil || err2 != nil || len(b) != 16 {
		return wire.Identity{}, false
	}
	id := wire.Identity{Topic: [16]byte(b), Partition: uint32(n)}
	return id, logDir(id) == name
}

// appendSegmentHeader appends the header of a segment file:
//
//	0       8         12    16      32     36           40       48      56     64     72        80      88       96
//	+-------+---------+-----+-------+------+------------+--------+-------+------+------+---------+-------+--------+-------+
//	| magic | version | crc | topic | part | data start | base   | base  | prev | prev | created | state | state  | state |
//	|       |         |     |       |      |            | offset | index | term | time |         | index | length | blob  |
//	+-------+---------+-----+-------+------+------------+--------+-------+------+------+---------+-------+--------+-------+
//
// State length is 4 bytes and 4 zero bytes. crc covers everything up to data start, which is a
// multiple of 8, with zeros in its place.
func appendSegmentHeader(dst []byte, id wire.Identity, at place, createdMs int64, st snapshot) []byte {
	start := len(dst)
	total := align(segmentHeader + len(st.blob))
	dst = le.AppendUint64(dst, segmentMagic)
	dst = le.AppendUint32(dst, formatVersion)
	dst = le.AppendUint32(dst, 0)
	dst = appendIdentity(dst, id)
	dst = le.AppendUint32(dst, uint32(total))
	dst = le.AppendUint64(dst, at.offset)
	dst = le.AppendUint64(dst, at.index)
	dst = le.AppendUint64(dst, at.term)
	dst = le.AppendUint64(dst, uint64(at.time))
	dst = le.AppendUint64(dst, uint64(createdMs))
	dst = le.AppendUint64(dst, st.index)
	dst = le.AppendUint32(dst, uint32(len(st.blob)))
	dst = le.AppendUint32(dst, 0)
	dst = append(dst, st.blob...)
	dst = append(dst, make([]byte, total-segmentHeader-len(st.blob))...)
	le.PutUint32(dst[start+12:], crc32c.Checksum(dst[start:]))
	return dst
}

// headerInfo is what a segment's header says.
type headerInfo struct {
	id    wire.Identity
	data  int64
	start place
	state snapshot
}

// tells reports whether an error of readSegmentHeader or readFooter tells what the file holds. Any other is one of reading,
// which may work a moment later: nothing follows from it for the file.
func tells(err error) bool {
	for _, known := range []error{errSegmentHeader, errFooter, errNoFooter, ErrVersion} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// readSegmentHeader reads and checks a header. The error is errSegmentHeader for damage, also when the file ends before;
// see tells.
func readSegmentHeader(f File) (headerInfo, error) {
	var fixed [segmentHeader]byte
	if err := readPart(f, fixed[:], 0, errSegmentHeader); err != nil {
		return headerInfo{}, err
	}
	total := int64(le.Uint32(fixed[36:]))
	length := int64(le.Uint32(fixed[88:]))
	if le.Uint64(fixed[:]) != segmentMagic || length > maxStateBytes ||
		total != int64(align(segmentHeader+int(length))) {
		return headerInfo{}, errSegmentHeader
	}
	b := make([]byte, total)
	if err := readPart(f, b, 0, errSegmentHeader); err != nil {
		return headerInfo{}, err
	}
	if !checksumAt(b, 12) {
		return headerInfo{}, errSegmentHeader
	}
	if le.Uint32(b[8:]) != formatVersion {
		return headerInfo{}, ErrVersion
	}
	return headerInfo{
		id: parseIdentity(b[16:]), data: total,
		start: place{
			offset: le.Uint64(b[40:]), index: le.Uint64(b[48:]), term: le.Uint64(b[56:]),
			time: int64(le.Uint64(b[64:])),
		},
		state: snapshot{index: le.Uint64(b[80:]), blob: b[segmentHeader : segmentHeader+length : segmentHeader+length]},
	}, nil
}

// footerInfo is what a sealed segment's footer says.
type footerInfo struct {
	dataEnd int64
	next    place
	first   int64 // append time of the first entry
	marks   []mark
}

// appendFooter appends the footer of a sealed segment: its index and a trailer of 96 bytes, the last
// in the file.
//
//	index:   offset u64, index u64, term u64, time i64, position u64; as often as the trailer says
//	trailer: magic u64, version u32, crc u32, count u32, zero u32, data end u64, next offset u64,
//	         next index u64, last term u64, last time i64, first time i64, zeros up to 96
//
// crc covers index and trailer with zeros in its place.
func appendFooter(dst []byte, f footerInfo) []byte {
	start := len(dst)
	for _, m := range f.marks {
		dst = le.AppendUint64(dst, m.offset)
		dst = le.AppendUint64(dst, m.index)
		dst = le.AppendUint64(dst, m.term)
		dst = le.AppendUint64(dst, uint64(m.time))
		dst = le.AppendUint64(dst, uint64(m.pos))
	}
	at := len(dst)
	dst = le.AppendUint64(dst, footerMagic)
	dst = le.AppendUint32(dst, formatVersion)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(len(f.marks)))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint64(dst, uint64(f.dataEnd))
	dst = le.AppendUint64(dst, f.next.offset)
	dst = le.AppendUint64(dst, f.next.index)
	dst = le.AppendUint64(dst, f.next.term)
	dst = le.AppendUint64(dst, uint64(f.next.time))
	dst = le.AppendUint64(dst, uint64(f.first))
	dst = append(dst, make([]byte, footerTrailer-(len(dst)-at))...)
	le.PutUint32(dst[at+12:], crc32c.Checksum(dst[start:]))
	return dst
}

// readFooter reads and checks the footer of a file of the given size. The error is errFooter for damage, and errNoFooter
// when the file was not sealed: nothing at its end says that it was. See tells.
func readFooter(f File, size int64) (footerInfo, error) {
	var t [footerTrailer]byte
	if size < segmentHeader+footerTrailer {
		return footerInfo{}, errNoFooter
	}
	if err := readPart(f, t[:], size-footerTrailer, errFooter); err != nil {
		return footerInfo{}, err
	}
	count := int64(le.Uint32(t[16:]))
	begin := size - footerTrailer - count*markSize
	switch marked, placed := le.Uint64(t[:]) == footerMagic, begin >= segmentHeader && int64(le.Uint64(t[24:])) == begin; {
	case !marked && !placed:
		return footerInfo{}, errNoFooter
	case !marked || !placed:
		return footerInfo{}, errFooter
	}
	b := make([]byte, size-begin)
	if err := readPart(f, b, begin, errFooter); err != nil {
		return footerInfo{}, err
	}
	if !checksumAt(b, int(count*markSize)+12) {
		return footerInfo{}, errFooter
	}
	if le.Uint32(t[8:]) != formatVersion {
		return footerInfo{}, ErrVersion
	}
	info := footerInfo{
		dataEnd: begin, first: int64(le.Uint64(t[64:])), marks: make([]mark, count),
		next: place{
			offset: le.Uint64(t[32:]), index: le.Uint64(t[40:]), term: le.Uint64(t[48:]),
			time: int64(le.Uint64(t[56:])),
		},
	}
	for i := range info.marks {
		m := b[i*markSize:]
		info.marks[i] = mark{
			offset: le.Uint64(m), index: le.Uint64(m[8:]), term: le.Uint64(m[16:]),
			time: int64(le.Uint64(m[24:])), pos: uint32(le.Uint64(m[32:])),
		}
	}
	return info, nil
}

// readPart is readFull for a part of a file: damaged is the error when the file ends before.
func readPart(f File, b []byte, pos int64, damaged error) error {
	err := readFull(f, b, pos)
	if errors.Is(err, io.EOF) {
		return damaged
	}
	return err
}

// readEntries is readFull for a part of a file that should have entries or chunks. When somebody cut the file short
// meanwhile, what is missing reads as zeros: no entry is intact there, so it counts as damage.
func readEntries(f File, b []byte, pos int64) error {
	n, err := f.ReadAt(b, pos)
	if n == len(b) || errors.Is(err, io.EOF) {
		clear(b[n:])
		return nil
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), pos, err)
}

// readFull reads exactly len(b) bytes; the end of the file before that is an error.
func readFull(f File, b []byte, pos int64) error {
	n, err := f.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), pos, err)
}

// markDue reports whether the entry at pos of a segment is far enough behind the last mark to get one.
func markDue(marks []mark, pos int64) bool {
	n := len(marks)
	return n == 0 || pos-int64(marks[n-1].pos) >= segmentMarkBytes
}
