package wire

// Version is the protocol version of this package.
const Version = 0

// PrefaceBytes is the size of the preface.
const PrefaceBytes = 8

// prefaceMagic opens a binary connection. The first byte has the high bit set, so no text protocol
// and no TLS handshake starts with it.
var prefaceMagic = [4]byte{0xFB, 'R', 'F', 'K'}

// IsBinary reports whether b is the first byte of a connection that speaks the binary protocol.
func IsBinary(b byte) bool { return b == prefaceMagic[0] }

// AppendPreface appends the first bytes that a binary client sends: the magic, its version and three zeros.
func AppendPreface(dst []byte) []byte {
	dst = append(dst, prefaceMagic[:]...)
	return append(dst, Version, 0, 0, 0)
}

// ParsePreface checks the first PrefaceBytes of a connection and returns the client's version. It
// returns ErrMalformed when they are not a preface.
func ParsePreface(b []byte) (version uint8, err error) {
	if len(b) < PrefaceBytes || [4]byte(b) != prefaceMagic || b[5]|b[6]|b[7] != 0 {
		return 0, ErrMalformed
	}
	return b[4], nil
}
