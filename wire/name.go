package wire

import (
	"strings"
	"unicode/utf8"
)

// CheckName returns an *Error with CodeInvalid when name is not a valid name of a topic or group, which of says. A name has
// 1 to 255 bytes: ASCII letters, digits, '_' and '-', in non-empty tokens separated by '.'. So it is a valid literal subject,
// too.
func CheckName(of, name string) error {
	if name == "" || len(name) > MaxTopicName {
		return Errorf(CodeInvalid, "a %s name has 1 to %d bytes, not %d", of, MaxTopicName, len(name))
	}
	for _, token := range strings.Split(name, ".") {
		if token == "" {
			return Errorf(CodeInvalid, "%s name %q has an empty token", of, name)
		}
	}
	for i := range len(name) {
		if !isNameByte(name[i]) {
			_, size := utf8.DecodeRuneInString(name[i:])
			return Errorf(CodeInvalid,
				"%s name %q: %q is not allowed (letters, digits, '.', '_', '-')", of, name, name[i:i+size])
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '-'
}
