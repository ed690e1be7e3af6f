package main

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sleepExactly gives the calling goroutine a thread of its own, on which sleepUntil is exact to a few
// microseconds; the timers of the Go runtime are exact to a millisecond. release gives up the thread.
func sleepExactly() (release func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // if it fails, sleeps are less exact
	return runtime.UnlockOSThread
}

// sleepUntil waits until t with a system call, which blocks the thread.
func sleepUntil(t time.Time) {
	if d := time.Until(t); d > 0 {
		ts := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil) // a signal may end it early
	}
}
