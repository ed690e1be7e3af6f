package main

import (
	"cmp"
	"os"
	"runtime/debug"

	"github.com/rafka-mq/rafka/log"
)

// leastHeap is the least limit of Go's memory: below it the collector would run all the time.
const leastHeap = 32 << 20

// limitHeap has Go collect its garbage before the container's limit ends the process, unless GOMEMLIMIT says what
// to do. messages is the configured memory for messages, 0 for the default; it is not Go's.
func limitHeap(messages int64) {
	if _, given := os.LookupEnv("GOMEMLIMIT"); given {
		return
	}
	if limit, limited := log.ContainerMemory(); limited {
		debug.SetMemoryLimit(heapLimit(limit, cmp.Or(messages, log.DefaultMemoryBytes())))
	}
}

// heapLimit is nine tenths of what the messages leave of a container's limit. The tenth is for what neither counts:
// threads, and the kernel's buffers.
func heapLimit(container, messages int64) int64 {
	return max(leastHeap, (container-messages)/10*9)
}
