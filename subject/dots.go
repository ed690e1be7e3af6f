package subject

import (
	"encoding/binary"
	"math/bits"
)

// Subjects are short, but a loop over their bytes is slow: it ends after a number of bytes that the processor
// cannot foresee. So they are looked at 8 bytes at a time, as numbers.

const (
	eachByte = 0x0101010101010101
	eachTop  = eachByte << 7
)

// word is up to 8 bytes of a subject, the first one lowest, and zeros behind them.
type word uint64

// dots returns a word with the top bit of each byte set that is a dot.
func (w word) dots() uint64 {
	x := uint64(w) ^ eachByte*'.' // a dot becomes 0
	return ^(x&^eachTop + ^uint64(eachTop) | x | ^uint64(eachTop))
}

// firstWord returns the first bytes of s.
func firstWord(s []byte) word {
	switch n := len(s); {
	case n >= 8:
		return word(binary.LittleEndian.Uint64(s))
	case n >= 4:
		return word(binary.LittleEndian.Uint32(s)) | word(binary.LittleEndian.Uint32(s[n-4:]))<<(8*(n-4))
	case n > 0:
		return word(s[0]) | word(s[n/2])<<(8*(n/2)) | word(s[n-1])<<(8*(n-1))
	}
	return 0
}

// whole reports whether no token of s is empty. A subject with an empty token matches nothing.
func whole(s []byte) bool {
	last := uint64(0x80) // whether a dot, or the start of s, is before the word
	for ; len(s) > 0; s = s[min(8, len(s)):] {
		dots := firstWord(s).dots()
		if dots&(dots<<8|last) != 0 {
			return false
		}
		last = dots >> 56
		if len(s) <= 8 {
			last = dots >> (8 * (len(s) - 1))
		}
	}
	return last&0x80 == 0
}

// cut cuts s around its first dot, as bytes.Cut does.
func cut(s []byte) (token, after []byte, goesOn bool) {
	for at := 0; at < len(s); at += 8 {
		if dots := firstWord(s[at:]).dots(); dots != 0 {
			at += bits.TrailingZeros64(dots) / 8
			return s[:at], s[at+1:], true
		}
	}
	return s, nil, false
}
