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

// kernelMemory is what a container keeps for threads and the kernel's memory, which neither Go nor the
// messages count. Ten thousand idle connections take 18 MB of the kernel's memory.
const kernelMemory = 24 << 20

// heapLimit returns what the messages and the kernel leave of the container's limit. The kernel gets
// kernelMemory or a tenth, but of a small container at most a quarter.
func heapLimit(container, messages int64) int64 {
	rest := container - messages
	return max(leastHeap, rest-max(rest/10, min(rest/4, kernelMemory)))
}
