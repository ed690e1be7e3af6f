package server

import (
	"time"

	"github.com/rafka-mq/rafka/log"
)

// syncTimer is a file system that measures how long flushes to the device take, such as those that acknowledgements at
// level disk wait for.
type syncTimer struct {
	log.FS
	took *histogram
}

// timeSyncs returns fs, or the operating system's file system for nil, with its flushes measured.
func timeSyncs(fs log.FS, took *histogram) log.FS {
	if fs == nil {
		fs = log.OS
	}
	return syncTimer{fs, took}
}

// Open opens a file whose flushes are measured, if it can be written to.
func (t syncTimer) Open(name string, write, create bool) (log.File, error) {
	f, err := t.FS.Open(name, write, create)
	if err != nil || !write {
		return f, err
	}
	return timedFile{f, t.took}, nil
}

type timedFile struct {
	log.File
	took *histogram
}

// Sync measures a flush, even one that fails.
func (f timedFile) Sync() error {
	start := time.Now()
	err := f.File.Sync()
	f.took.observe(time.Since(start), 1)
	return err
}
