package client

import "golang.org/x/sys/unix"

// outputOf returns how many bytes of a TCP connection's output the other side has confirmed so far, and how many the
// kernel keeps until that happens.
func outputOf(fd int) (confirmed uint64, kept int) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0
	}
	kept, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return info.Bytes_acked, 0
	}
	return info.Bytes_acked, kept
}
