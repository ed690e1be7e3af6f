package server

import "golang.org/x/sys/unix"

// keepMore tells the kernel that more output follows, so that it need not send the last segment before that is full.
const keepMore = unix.MSG_MORE

// keptOutput returns how many bytes of output the kernel keeps because the peer has not confirmed them.
func keptOutput(socket int) int32 {
	n, err := unix.IoctlGetInt(socket, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return int32(n)
}
