package wire

import (
	"bytes"
	"fmt"
	"strings"
)

// MaxFilterTerms bounds the terms of a Filter. MaxFilterBytes bounds the name and the value of a term.
const (
	MaxFilterTerms = 16
	MaxFilterBytes = 1 << 10
)

// FilterOp says what a term of a Filter requires of the headers with its name.
type FilterOp uint8

// The operations. When a record has several headers with the name, FilterEqual and FilterPrefix require that
// one of them matches, and FilterNotEqual that none does. FilterNotEqual holds without such a header, too.
const (
	FilterExists   FilterOp = 0
	FilterMissing  FilterOp = 1
	FilterEqual    FilterOp = 2
	FilterNotEqual FilterOp = 3
	FilterPrefix   FilterOp = 4
)

// FilterTerm is one condition on the headers of a record.
type FilterTerm struct {
	Op    FilterOp
	Name  string
	Value string // of FilterEqual, FilterNotEqual and FilterPrefix
}

// Filter selects records by their headers: all terms must hold. An empty filter selects all records.
type Filter []FilterTerm

// Match reports whether the filter selects a record with headers h.
func (f Filter) Match(h Headers) bool {
	for i := range f {
		if !f[i].match(h) {
			return false
		}
	}
	return true
}

func (t *FilterTerm) match(h Headers) bool {
	found := false
	for name, value := range h.All() {
		if string(name) != t.Name {
			continue
		}
		switch t.Op {
		case FilterExists, FilterMissing:
			found = true
		case FilterPrefix:
			found = bytes.HasPrefix(value, []byte(t.Value))
		default:
			found = string(value) == t.Value
		}
		if found {
			break
		}
	}
	return found != (t.Op == FilterMissing || t.Op == FilterNotEqual)
}

// ParseFilterTerm parses the text form of a term: name, !name, name=value, name!=value, or name^=prefix.
func ParseFilterTerm(s string) (FilterTerm, error) {
	var t FilterTerm
	name, value, has := strings.Cut(s, "=")
	switch {
	case has && strings.HasSuffix(name, "!"):
		t = FilterTerm{Op: FilterNotEqual, Name: name[:len(name)-1], Value: value}
	case has && strings.HasSuffix(name, "^"):
		t = FilterTerm{Op: FilterPrefix, Name: name[:len(name)-1], Value: value}
	case has:
		t = FilterTerm{Op: FilterEqual, Name: name, Value: value}
	case strings.HasPrefix(s, "!"):
		t = FilterTerm{Op: FilterMissing, Name: s[1:]}
	default:
		t = FilterTerm{Op: FilterExists, Name: s}
	}
	if !t.valid() {
		return t, fmt.Errorf("filter %q is not name, !name, name=value, name!=value or name^=prefix, of at most %d bytes each", s, MaxFilterBytes)
	}
	return t, nil
}

// String returns the text form of the term; see ParseFilterTerm.
func (t FilterTerm) String() string {
	switch t.Op {
	case FilterExists:
		return t.Name
	case FilterMissing:
		return "!" + t.Name
	case FilterNotEqual:
		return t.Name + "!=" + t.Value
	case FilterPrefix:
		return t.Name + "^=" + t.Value
	default:
		return t.Name + "=" + t.Value
	}
}

func (t *FilterTerm) valid() bool {
	return t.formed() && len(t.Name) <= MaxFilterBytes && len(t.Value) <= MaxFilterBytes
}

// formed reports whether the term is valid, whatever its size.
func (t *FilterTerm) formed() bool {
	return t.Name != "" && t.Op <= FilterPrefix && (t.Op > FilterMissing || t.Value == "")
}

// Size returns about the memory of the filter in bytes.
func (f Filter) Size() int {
	size := 0
	for i := range f {
		size += termBytes + len(f[i].Name) + len(f[i].Value)
	}
	return size
}

// termBytes is the size of a FilterTerm.
const termBytes = 40

// Valid reports whether the filter can be sent.
func (f Filter) Valid() bool {
	for i := range f {
		if !f[i].valid() {
			return false
		}
	}
	return len(f) <= MaxFilterTerms
}

// append appends the filter: u8 count, and for each term u8 op, string name, string value.
func (f Filter) append(dst []byte) []byte {
	dst = append(dst, byte(len(f)))
	for _, t := range f {
		dst = appendStr(append(dst, byte(t.Op)), t.Name)
		dst = appendStr(dst, t.Value)
	}
	return dst
}

// filter reads what append wrote. It does not allocate for an empty filter.
func (r *body) filter() Filter {
	n := int(r.u8())
	if n == 0 || r.bad {
		return nil
	}
	f := make(Filter, 0, min(n, MaxFilterTerms))
	for range n {
		t := FilterTerm{Op: FilterOp(r.u8()), Name: r.str(MaxFilterBytes)}
		t.Value = r.str(MaxFilterBytes)
		if r.bad || !t.formed() || len(f) == MaxFilterTerms {
			r.bad = true
			return nil
		}
		f = append(f, t)
	}
	return f
}
