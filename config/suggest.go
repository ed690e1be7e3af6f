package config

import (
	"fmt"
	"slices"
	"strings"
)

// cutKey splits "section.key".
func cutKey(key string) (section, name string) {
	section, name, _ = strings.Cut(key, ".")
	return section, name
}

// unknown returns the error text for an unknown key, with the key that was probably meant.
func unknown(key string, known []string) string {
	if instead, ok := foreign[key]; ok {
		return fmt.Sprintf("%q is a key of nats-server: %s", key, instead)
	}
	if near := Nearest(key, known); near != "" {
		return fmt.Sprintf("unknown key %q - did you mean %q?", key, near)
	}
	return fmt.Sprintf("unknown key %q", key)
}

// inside are the keys inside users, nkeys and default_permissions, at any depth.
var inside = []string{
	"user", "password", "pass", "nkey", "permissions",
	"publish", "subscribe", "allow_responses", "admin", "allow", "deny", "max", "expires",
}

// unknownInside is unknown for a key inside users, nkeys or default_permissions.
func unknownInside(key string) string {
	if slices.Contains(inside, key) {
		return fmt.Sprintf("%q does not belong here, but to another level", key)
	}
	return unknown(key, inside)
}

// Nearest returns the word of known that was probably meant by word, or "". At most a third of the
// letters may differ. The same name in another section is the nearest.
func Nearest(word string, known []string) string {
	best, bestCost := "", len(word)/3+1
	_, name := cutKey(word)
	for _, k := range known {
		cost := distance(word, k)
		if _, kn := cutKey(k); name != "" && kn == name {
			cost = min(cost, 1)
		}
		if cost < bestCost {
			best, bestCost = k, cost
		}
	}
	return best
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
