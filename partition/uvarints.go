package partition

import "encoding/binary"

func appendUvarints(dst []byte, vs ...uint64) []byte {
	for _, v := range vs {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// uvarints reads numbers and bytes from the front of b. After the first that is cut short or malformed, bad is set and
// every further one is zero.
type uvarints struct {
	b   []byte
	bad bool
}

func (r *uvarints) next() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes reads n bytes, as a view.
func (r *uvarints) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// signed reads a number that binary.AppendVarint wrote.
func (r *uvarints) signed() int64 {
	u := r.next()
	return int64(u>>1) ^ -int64(u&1)
}
