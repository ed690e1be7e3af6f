//go:build unix

package server

import "golang.org/x/sys/unix"

// raiseFileLimit raises the limit of open files as far as the system allows and returns it.
func raiseFileLimit() int64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	if r.Cur < r.Max {
		up := unix.Rlimit{Cur: r.Max, Max: r.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &up) == nil {
			return int64(min(up.Cur, 1<<31))
		}
	}
	return int64(min(r.Cur, 1<<31))
}

// raiseFileSize raises the limit of the size of files as far as the system allows.
func raiseFileSize() {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &r) == nil && r.Cur < r.Max {
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: r.Max, Max: r.Max}) // the storage checks what it is
	}
}
