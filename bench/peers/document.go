package main

import (
	"fmt"
	"os"
	"strings"
)

// A document holds a part of the report between these lines; the first one names the part.
const (
	beginMark = "<!-- begin: bench peers %s -->\n"
	endMark   = "<!-- end: bench peers -->\n"
)

// parts returns the parts of the report that a document can hold, by name.
func (r *results) parts() map[string]string {
	return map[string]string{"targets": r.targets(), "tables": r.tables(), "summary": r.summary()}
}

// replaceParts returns the document with the parts that it has marks for. It fails if it has marks for
// none of them, or if the end of one is missing.
func replaceParts(document string, parts map[string]string) (string, error) {
	found := false
	for name, text := range parts {
		begin := fmt.Sprintf(beginMark, name)
		before, rest, ok := strings.Cut(document, begin)
		if !ok {
			continue
		}
		_, after, ok := strings.Cut(rest, endMark)
		if !ok {
			return "", fmt.Errorf("the line %q has no %q behind it", strings.TrimSpace(begin), strings.TrimSpace(endMark))
		}
		document, found = before+begin+text+endMark+after, true
	}
	if !found {
		return "", fmt.Errorf("there is no line such as %q", strings.TrimSpace(fmt.Sprintf(beginMark, "targets")))
	}
	return document, nil
}

// write writes the report into a document, between its marks.
func (r *results) write(name string) error {
	document, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := replaceParts(string(document), r.parts())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
