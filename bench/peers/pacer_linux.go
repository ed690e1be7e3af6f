package main

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits for moments more exactly than the runtime's timers, which are a millisecond apart: with
// a system call on a thread of its own.
type pacer struct{}

// newPacer makes the calling goroutine the one that waits; release lets its thread go.
func newPacer() (p *pacer, release func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // less exact without
	return &pacer{}, runtime.UnlockOSThread
}

func (p *pacer) wait(due time.Time) {
	if d := time.Until(due); d > 0 {
		ts := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it early; the message is sent a little early then
	}
}
