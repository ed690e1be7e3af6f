package subject

import "bytes"

// The wildcard tokens.
const (
	anyToken = "*" // one token, whatever it is
	allRest  = ">" // one or more tokens; only at the end
)

// Valid reports whether s is a valid pattern: it has no empty token, no space or control character, and ">" only as
// its last token. A wildcard character within a longer token stands for itself.
func Valid(s []byte) bool {
	for more := true; more; {
		var token []byte
		token, s, more = bytes.Cut(s, dot)
		if !validToken(token) || more && string(token) == allRest {
			return false
		}
	}
	return true
}

// Literal reports whether s is a valid subject to publish to: it is Valid and has no wildcard token.
func Literal(s []byte) bool {
	for more := true; more; {
		var token []byte
		token, s, more = bytes.Cut(s, dot)
		if !validToken(token) || string(token) == allRest || string(token) == anyToken {
			return false
		}
	}
	return true
}

var dot = []byte{'.'}

func validToken(token []byte) bool {
	for _, c := range token {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return len(token) > 0
}

// Match reports whether pattern matches subject. For many patterns use an Index.
func Match(pattern, subject []byte) bool {
	if !whole(subject) || !whole(pattern) {
		return false
	}
	for {
		p, patternRest, morePattern := bytes.Cut(pattern, dot)
		s, subjectRest, moreSubject := bytes.Cut(subject, dot)
		switch {
		case string(p) == allRest && !morePattern:
			return true
		case string(p) != anyToken && !bytes.Equal(p, s):
			return false
		case !morePattern || !moreSubject:
			return morePattern == moreSubject
		}
		pattern, subject = patternRest, subjectRest
	}
}

// Covers reports whether pattern matches every subject that the pattern other matches. Both must be Valid.
func Covers(pattern, other []byte) bool {
	for {
		p, patternRest, morePattern := bytes.Cut(pattern, dot)
		o, otherRest, moreOther := bytes.Cut(other, dot)
		switch {
		case string(p) == allRest:
			return true
		case string(o) == allRest || string(p) != anyToken && !bytes.Equal(p, o):
			return false
		case !morePattern || !moreOther:
			return morePattern == moreOther
		}
		pattern, other = patternRest, otherRest
	}
}

// Overlap reports whether some subject matches both patterns. Both must be Valid.
func Overlap(a, b []byte) bool {
	for {
		x, restA, moreA := bytes.Cut(a, dot)
		y, restB, moreB := bytes.Cut(b, dot)
		switch {
		case string(x) == allRest || string(y) == allRest:
			return true
		case string(x) != anyToken && string(y) != anyToken && !bytes.Equal(x, y):
			return false
		case !moreA || !moreB:
			return moreA == moreB
		}
		a, b = restA, restB
	}
}
