package server

import "golang.org/x/sys/unix"

// keptOutput returns how many bytes of output the kernel keeps because the peer has not confirmed them.
func keptOutput(socket int) int32 {
	n, err := unix.IoctlGetInt(socket, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return int32(n)
}
