package config

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// secretValue matches what follows the key of a password, a token or an nkey, also of a mistyped one, up to the end
	// of the line: what is not YAML tells no better where a secret ends.
	secretValue = regexp.MustCompile(secretKey.String() + `\S.*`)
	secretKey   = regexp.MustCompile(`(?i)((?:pas|pw|tok|secret|nkey)[\w-]*["']?[ \t]*[:=][ \t]*)`)
	// excerptLine matches a line of an excerpt: its number and its text.
	excerptLine = regexp.MustCompile(`(?m)^(>? *(\d+) \|)(.*)$`)
)

// withoutSecrets hides the secrets of a file in an excerpt of it: what is shown on stderr ends in the logs of a service.
func withoutSecrets(excerpt string, source []byte) string {
	hidden := secretLines(string(source))
	excerpt = excerptLine.ReplaceAllStringFunc(excerpt, func(line string) string {
		m := excerptLine.FindStringSubmatch(line)
		if n, err := strconv.Atoi(m[2]); err == nil && hidden[n] {
			return m[1] + " …"
		}
		return line
	})
	return secretValue.ReplaceAllString(excerpt, "$1…")
}

// secretLines returns the numbers of the lines, from 1, on which a secret goes on that began on a line before: those
// that are further in than its key, and the first one even when it is not.
func secretLines(source string) map[int]bool {
	hidden := map[int]bool{}
	first, in := false, -1 // in is the column of the key; below 0 when no secret goes on
	for i, line := range strings.Split(source, "\n") {
		text := strings.TrimLeft(line, " \t")
		if strings.TrimSpace(text) == "" {
			continue
		}
		if first || in >= 0 && len(line)-len(text) > in {
			hidden[i+1], first = true, false
			continue
		}
		first, in = begins(line)
	}
	return hidden
}

// begins reports whether a line begins a secret that goes on: first means surely on the next line, and in is the column
// of its key, or below 0 within braces.
func begins(line string) (first bool, in int) {
	at := secretKey.FindStringIndex(line)
	if at == nil {
		return false, -1
	}
	value := strings.TrimSpace(line[at[1]:])
	key := strings.TrimLeft(line, " \t-\"'")
	if value == "" && strings.HasPrefix(key, "nkeys") { // a list, whose lines have keys of their own
		return false, -1
	}
	in = len(line) - len(key)
	if strings.ContainsAny(line[:at[0]], "{[,") {
		in = -1
	}
	return value == "" || value[0] == '|' || value[0] == '>', in
}
