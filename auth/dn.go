package auth

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// dn is a distinguished name in a form that can be compared: its parts, the most specific first.
// Each part has its attributes in a fixed order, with quoted values.
type dn []string

// exact is equal for names that have the same parts in the same order.
func (d dn) exact() string { return strings.Join(d, ",") }

// anyOrder is equal for names that have the same parts in any order, on which tools do not agree.
func (d dn) anyOrder() string {
	sorted := slices.Sorted(slices.Values(d))
	return strings.Join(sorted, ",")
}

// attributeNames are the short names of attribute types: those of RFC 4514, and others that
// certificates use.
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

// attribute returns one attribute. It ignores the case of the type, but not that of the value.
func attribute(kind, value string) string {
	if name, ok := attributeNames[kind]; ok {
		kind = name
	}
	return strings.ToUpper(kind) + "=" + strconv.Quote(value)
}

// part joins the attributes of one part, whose order has no meaning.
func part(attributes []string) string {
	slices.Sort(attributes)
	return strings.Join(attributes, "+")
}

// certificateName parses the subject of a certificate in DER. It is needed because crypto/x509
// loses the order of parts, and merges their attributes. ok is false when a value is not text.
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

// parseName parses a distinguished name as written by RFC 4514. ok is false for anything else.
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

// attributeValue unescapes the value at the start of s. It ends at s[end]: a comma, a plus sign, or
// the end of s.
func attributeValue(s string) (value string, end int, ok bool) {
	start := len(s) - len(strings.TrimLeft(s, " "))
	if start < len(s) && s[start] == '#' { // a hexadecimal encoding of the value is not supported
		return "", 0, false
	}
	var b []byte
	keep := 0 // length of b without unescaped spaces at the end, which have no meaning
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

// unescape returns the byte that follows a backslash, and the length of its notation; 0 if that is
// invalid.
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
