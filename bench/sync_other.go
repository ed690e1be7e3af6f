//go:build !linux

package bench

import "os"

// dataSync makes the data of f durable.
func dataSync(f *os.File) error { return f.Sync() }
