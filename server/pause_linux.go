package server

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pollOf returns the epoll instance that watches a socket, or -1. It asks the kernel, because gnet offers no way to pause
// reading from a connection.
func pollOf(socket int) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || target != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == strconv.Itoa(socket) {
				poll, err := strconv.Atoi(e.Name())
				if err == nil {
					return poll
				}
			}
		}
	}
	return -1
}

// hasEvents reports whether an epoll instance has events. It does not take them, because gnet's own wake-up is reported
// only once.
func hasEvents(poll int) bool {
	fds := [1]unix.PollFd{{Fd: int32(poll), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0
}

// waitEvents waits until an epoll instance has events, but at most for d. It does not take them.
func waitEvents(poll int, d time.Duration) {
	fds := [1]unix.PollFd{{Fd: int32(poll), Events: unix.POLLIN}}
	limit := unix.NsecToTimespec(int64(d))
	_, _ = unix.Ppoll(fds[:], &limit, nil) // an error only makes the wait shorter
}

// watchSocket sets the events of a socket that its epoll instance reports.
func watchSocket(poll, socket int, read, write bool) error {
	var events uint32
	if read {
		events |= unix.EPOLLIN | unix.EPOLLPRI
	}
	if write {
		events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(poll, unix.EPOLL_CTL_MOD, socket, &unix.EpollEvent{Fd: int32(socket), Events: events}))
}
