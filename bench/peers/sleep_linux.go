package main

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exactly gives the calling goroutine a thread of its own, on which sleepUntil is exact to some
// microseconds; the runtime's timers are a millisecond apart. It returns what lets the thread go.
func exactly() (release func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // less exact without
	return runtime.UnlockOSThread
}

// sleepUntil waits with a system call.
func sleepUntil(t time.Time) {
	if d := time.Until(t); d > 0 {
		ts := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it a little early
	}
}
