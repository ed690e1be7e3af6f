package main

import (
	"cmp"
	"os"
	"runtime/debug"

	"github.com/rafka-mq/rafka/log"
)

// leastHeap is the lowest limit for Go's memory. Below it the garbage collector would run all the
// time.
const leastHeap = 32 << 20

// limitHeap sets the limit of Go's memory, so that the garbage collector keeps the process within
// the container's limit; GOMEMLIMIT has precedence. messages is the configured memory for messages,
// which Go does not count; 0 is the default.
func limitHeap(messages int64) {
	if _, given := os.LookupEnv("GOMEMLIMIT"); given {
		return
	}
	if limit, limited := log.ContainerMemory(); limited {
		debug.SetMemoryLimit(heapLimit(limit, cmp.Or(messages, log.DefaultMemoryBytes())))
	}
}

// heapLimit returns nine tenths of what the messages leave of the container's limit. The rest is
// for threads and the kernel's buffers, which neither counts.
func heapLimit(container, messages int64) int64 {
	return max(leastHeap, (container-messages)/10*9)
}
