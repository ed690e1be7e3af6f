package auth

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// dn is a distinguished name in a form that can be compared: its parts, the most specific first, each
// with its attributes in order and every value quoted.
type dn []string

// exact is the same for names with the same parts in the same order.
func (d dn) exact() string { return strings.Join(d, ",") }

// anyOrder is the same for names with the same parts in any order: tools do not agree on it.
func (d dn) anyOrder() string {
	sorted := slices.Sorted(slices.Values(d))
	return strings.Join(sorted, ",")
}

// attributeNames are the short names of attribute types, of RFC 4514 and what certificates have besides.
var attributeNames = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.5":                    "SERIALNUMBER",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "STREET",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.17":                   "POSTALCODE",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "EMAILADDRESS",
}

// attribute writes one attribute. The case of the type does not count; the value's does.
func attribute(kind, value string) string {
	if name, ok := attributeNames[kind]; ok {
		kind = name
	}
	return strings.ToUpper(kind) + "=" + strconv.Quote(value)
}

// part joins the attributes of one part, whose order does not count.
func part(attributes []string) string {
	slices.Sort(attributes)
	return strings.Join(attributes, "+")
}

// certificateName returns the subject of a certificate from its DER form: crypto/x509 keeps neither the
// order nor several attributes in one part. ok is false when a value is no text.
func certificateName(raw []byte) (d dn, ok bool) {
	var parts pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &parts); err != nil || len(rest) > 0 {
		return nil, false
	}
	for _, p := range slices.Backward(parts) {
		var attributes []string
		for _, a := range p {
			value, text := a.Value.(string)
			if !text {
				return nil, false
			}
			attributes = append(attributes, attribute(a.Type.String(), value))
		}
		d = append(d, part(attributes))
	}
	return d, len(d) > 0
}

// parseName parses a distinguished name as RFC 4514 writes it. ok is false for anything else.
func parseName(s string) (d dn, ok bool) {
	var attributes []string
	for {
		kind, rest, found := strings.Cut(s, "=")
		kind = strings.TrimSpace(kind)
		if !found || !isAttributeType(kind) {
			return nil, false
		}
		value, end, valid := attributeValue(rest)
		if !valid {
			return nil, false
		}
		attributes = append(attributes, attribute(kind, value))
		if end == len(rest) {
			return append(d, part(attributes)), true
		}
		if rest[end] == ',' {
			d, attributes = append(d, part(attributes)), nil
		}
		s = rest[end+1:]
	}
}

// isAttributeType reports whether s is a short name or a dotted number.
func isAttributeType(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && strings.Trim(s, letters+"0123456789-.") == ""
}

// attributeValue unescapes the value at the start of s, up to a comma, a plus sign or the end, which is
// at s[end].
func attributeValue(s string) (value string, end int, ok bool) {
	start := len(s) - len(strings.TrimLeft(s, " "))
	if start < len(s) && s[start] == '#' { // the value's encoding: nobody writes that by hand
		return "", 0, false
	}
	var b []byte
	keep := 0 // b without the blanks at its end, which do not count unless they are escaped
	for end = start; end < len(s); end++ {
		switch c := s[end]; c {
		case ',', '+':
			return string(b[:keep]), end, true
		case '"', ';', '<', '>', 0:
			return "", 0, false
		case '\\':
			c, n := unescape(s[end+1:])
			if n == 0 {
				return "", 0, false
			}
			b, end = append(b, c), end+n
			keep = len(b)
		default:
			b = append(b, c)
			if c != ' ' {
				keep = len(b)
			}
		}
	}
	return string(b[:keep]), end, true
}

// unescape returns what stands behind a backslash and how many bytes it takes, 0 when it is nothing.
func unescape(s string) (c byte, n int) {
	if s == "" {
		return 0, 0
	}
	if strings.IndexByte(` "#+,;<=>\`, s[0]) >= 0 {
		return s[0], 1
	}
	if len(s) < 2 {
		return 0, 0
	}
	b, err := hex.DecodeString(s[:2])
	if err != nil {
		return 0, 0
	}
	return b[0], 2
}
