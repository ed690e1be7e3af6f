//go:build !linux

package log

import "os"

func dataSync(f *os.File) error { return f.Sync() }

func writeOut(f *os.File, _, _ int64) error { return f.Sync() }

func startOut(*os.File) error { return nil }

func allocate(f *os.File, n int64) error { return extend(f, n) }

func openDirect(name string) (File, error) { return OS.Open(name, true, false) }
