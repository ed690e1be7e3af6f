//go:build !linux

package server

// keepMore is nothing: systems other than Linux are not told that more output follows.
const keepMore = 0

// keptOutput returns 0: systems other than Linux are not asked.
func keptOutput(int) int32 { return 0 }
