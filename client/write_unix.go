//go:build unix

package client

import (
	"errors"
	"syscall"
)

// canWriteDirectly says that sockets of package net are non-blocking.
const canWriteDirectly = true

// writeOnce writes to a non-blocking socket. It returns 0 and no error when the socket is full.
func writeOnce(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, err
		}
	}
}
