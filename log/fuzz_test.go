package log_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// fuzzFile opens a good directory in which one file was replaced by arbitrary bytes, reads it, writes
// to it and opens it again. Nothing may panic, and nothing damaged may be served.
func fuzzFile(f *testing.F, pick func(name string) bool) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(f, err)
	l, err := s.OpenLog(identity(1), log.Config{})
	require.NoError(f, err)
	for i := range uint64(80) {
		_, _, err := l.Append(data(i, 1+uint32(i%3), 30+int(i*37%400)))
		require.NoError(f, err)
		if i == 40 {
			require.NoError(f, s.Sync())
			require.NoError(f, s.Checkpoint())
		}
	}
	require.NoError(f, s.Sync())
	good := disk.Clone()
	s.Drop()
	var target string
	for _, name := range good.Names() {
		if pick(name) {
			target = name
			f.Add(good.Bytes(name)[:min(len(good.Bytes(name)), 8<<10)])
		}
	}
	f.Add([]byte{})
	f.Add(make([]byte, 5000))
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := good.Clone()
		disk.SetBytes(target, b)
		s, err := log.OpenStill(small(disk))
		if errors.Is(err, log.ErrVersion) {
			return
		}
		require.NoError(t, err)
		s.Drop()
		s, l, _, _ := survivors(t, disk, identity(1))
		appendN(t, l, 200, 3)
		require.NoError(t, s.Sync())
		_ = s.Checkpoint()
		s.Drop()
		s, _, got, _ := survivors(t, disk, identity(1))
		require.NotEmpty(t, got)
		s.Drop()
		_, err = log.VerifyFS(disk, "/data")
		require.NoError(t, err)
	})
}

func FuzzCommitLog(f *testing.F) {
	fuzzFile(f, func(name string) bool { return path.Dir(name) == "/data/commit" && strings.HasSuffix(name, ".log") })
}

func FuzzSegment(f *testing.F) {
	fuzzFile(f, func(name string) bool { return strings.HasSuffix(name, ".seg") })
}

func FuzzCheckpoint(f *testing.F) {
	fuzzFile(f, func(name string) bool { return path.Base(name) == "checkpoint" })
}
