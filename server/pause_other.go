//go:build !linux

package server

import (
	"errors"
	"time"
)

// pollOf returns -1: publishers are held back on Linux only.
func pollOf(int) int { return -1 }

func hasEvents(int) bool { return false }

func waitEvents(int, time.Duration) {}

func watchSocket(_, _ int, _, _ bool) error { return errors.ErrUnsupported }
