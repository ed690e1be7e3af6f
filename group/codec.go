package group

import (
	"encoding/binary"
	"math"
	"time"
)

var le = binary.LittleEndian

// reader reads values from the front of b. After the first value that is cut short, not in its shortest
// form or over its limit, bad is set and every further value is 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() uint64 {
	r.b, r.bad = nil, true
	return 0
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		return byte(r.fail())
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// uint reads an unsigned varint of at most limit.
func (r *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit || n > 1 && r.b[n-1] == 0 {
		return r.fail()
	}
	r.b = r.b[n:]
	return v
}

// sint reads a zigzag varint.
func (r *reader) sint() int64 {
	u := r.uint(math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

// fixed reads four bytes.
func (r *reader) fixed() uint32 {
	if len(r.b) < 4 {
		return uint32(r.fail())
	}
	v := le.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// bytes reads a length of at most limit and that many bytes. The result is a view of the input.
func (r *reader) bytes(limit uint64) []byte {
	n := r.uint(limit)
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// name reads the name of a group.
func (r *reader) name() []byte {
	v := r.bytes(maxName)
	if len(v) == 0 {
		r.fail()
	}
	return v
}

// count reads a number of items that take at least size bytes each.
func (r *reader) count(size int) int {
	return int(r.uint(uint64(len(r.b) / size)))
}

// moment reads milliseconds since 1970.
func (r *reader) moment() int64 { return int64(r.uint(maxMoment)) }

// maxMoment is the latest accepted time in milliseconds since 1970: more than 100,000 years ahead, and far
// enough from an overflow to add delays.
const maxMoment = 1 << 52

// duration reads milliseconds, from 1 to limit.
func (r *reader) duration(limit time.Duration) time.Duration {
	v := r.uint(uint64(limit.Milliseconds()))
	if v == 0 {
		r.fail()
	}
	return time.Duration(v) * time.Millisecond
}

func (r *reader) policy() Policy {
	p := Policy{
		Lease:         r.duration(maxLease),
		BackoffMin:    r.duration(maxDelay),
		BackoffMax:    r.duration(maxDelay),
		MaxDeliveries: int(r.uint(maxMaxDeliveries)),
		DeadLetter:    string(r.bytes(maxName)),
	}
	if p.MaxDeliveries == 0 || p.BackoffMax < p.BackoffMin {
		r.fail()
	}
	return p
}

func appendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendSint(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v<<1)^uint64(v>>63))
}

func appendText(dst []byte, s string) []byte {
	return append(appendUint(dst, uint64(len(s))), s...)
}

func appendPolicy(dst []byte, p Policy) []byte {
	dst = appendUint(dst, uint64(p.Lease.Milliseconds()))
	dst = appendUint(dst, uint64(p.BackoffMin.Milliseconds()))
	dst = appendUint(dst, uint64(p.BackoffMax.Milliseconds()))
	dst = appendUint(dst, uint64(p.MaxDeliveries))
	return appendText(dst, p.DeadLetter)
}
