package wire

import "math"

// body reads the fields of a frame body in order. After a read that fails, every further one returns zero,
// and done returns ErrMalformed. A string is a u16 length and bytes, a blob a u32 length and bytes.
type body struct {
	b    []byte
	bad  bool
	long error // names the first string over its limit; the fields behind it can be read
}

func (r *body) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *body) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *body) u16() uint16 {
	if v := r.take(2); v != nil {
		return le.Uint16(v)
	}
	return 0
}

func (r *body) u32() uint32 {
	if v := r.take(4); v != nil {
		return le.Uint32(v)
	}
	return 0
}

func (r *body) u64() uint64 {
	if v := r.take(8); v != nil {
		return le.Uint64(v)
	}
	return 0
}

func (r *body) view(limit int) []byte {
	n := int(r.u16())
	if n > limit && r.long == nil {
		r.long = Errorf(CodeTooLarge, "a name or text of %d bytes, the limit is %d", n, limit)
	}
	return r.take(n)
}

func (r *body) str(limit int) string { return string(r.view(limit)) }

func (r *body) id() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

// count reads a u16 count of items of at least size bytes each. It refuses a count that the frame cannot hold,
// so that a hostile one reserves no memory.
func (r *body) count(size int) int {
	n := int(r.u16())
	if n*size > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

// done returns ErrMalformed unless the body was read to its end and no read failed. For a body that was read
// and has a string over its limit it returns an *Error with CodeTooLarge.
func (r *body) done() error {
	if r.bad || len(r.b) != 0 {
		return ErrMalformed
	}
	return r.long
}

// rest returns the unread rest of the body, as a view. Its errors are those of done.
func (r *body) rest() ([]byte, error) {
	if r.bad {
		return nil, ErrMalformed
	}
	return r.b, r.long
}

// appendStr appends a string. One that is longer than a string can be is cut there: that is over every limit, so
// the other side refuses it.
func appendStr[T ~string | ~[]byte](dst []byte, s T) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	dst = le.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
