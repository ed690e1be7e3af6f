//go:build !linux

package server

import "testing"

func mountedDisk(t *testing.T) *smallDisk {
	t.Skip("mounts a tmpfs")
	return nil
}

func tinyDisk(t *testing.T) *smallDisk { return mountedDisk(t) }
