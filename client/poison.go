//go:build !race

package client

// poison does nothing in ordinary builds; see poison_race.go.
func poison([]byte) {}
