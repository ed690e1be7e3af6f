package bench

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync makes the data of f durable, but not its timestamps.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
