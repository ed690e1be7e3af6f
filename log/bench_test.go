package log_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

func p50(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-us")
}

// BenchmarkBareSync is the floor: one pwrite of 4 KiB and one fdatasync, in a file that was written
// before.
func BenchmarkBareSync(b *testing.B) {
	f, err := log.OS.Open(b.TempDir()+"/file", true, true)
	require.NoError(b, err)
	defer f.Close()
	block := make([]byte, 4<<10)
	const blocks = 1024
	for i := range int64(blocks) {
		_, err = f.WriteAt(block, i*4096)
		require.NoError(b, err)
	}
	require.NoError(b, f.Sync())
	var times []time.Duration
	for n := int64(0); b.Loop(); n++ {
		start := time.Now()
		_, _ = f.WriteAt(block, n%blocks*4096)
		_ = f.Sync()
		times = append(times, time.Since(start))
	}
	p50(b, times)
}

func BenchmarkFlushOneLog(b *testing.B) { benchmarkFlush(b, 1) }

// BenchmarkFlush64Logs makes an entry of each of 64 logs durable in every round.
func BenchmarkFlush64Logs(b *testing.B) { benchmarkFlush(b, 64) }

func benchmarkFlush(b *testing.B, n int) {
	s, err := log.Open(log.Options{Dir: b.TempDir()})
	require.NoError(b, err)
	defer s.Close()
	told := make(chan struct{}, 1024)
	logs := make([]*log.Log, n)
	for i := range logs {
		logs[i], err = s.OpenLog(identity(byte(i)), log.Config{Notify: func(log.Positions, error) { told <- struct{}{} }})
		require.NoError(b, err)
	}
	batch := data(1, 1, 4<<10)
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		for _, l := range logs {
			if _, _, err := l.Append(batch); err != nil {
				b.Fatal(err)
			}
			l.Flush(wire.LevelDisk)
		}
		for _, l := range logs {
			for p := l.Positions(); p.Durable < p.Next; p = l.Positions() {
				<-told
			}
		}
		times = append(times, time.Since(start))
	}
	p50(b, times)
}

// BenchmarkReopen opens a directory with 1 GiB when RAFKA_BIG is set, else with 64 MiB.
func BenchmarkReopen(b *testing.B) {
	dir, size := b.TempDir(), 64<<20
	if os.Getenv("RAFKA_BIG") != "" {
		size = 1 << 30
	}
	s, err := log.Open(log.Options{Dir: dir})
	require.NoError(b, err)
	l, err := s.OpenLog(identity(1), log.Config{})
	require.NoError(b, err)
	batch := data(1, 100, 100<<10)
	for n := 0; n < size; {
		if _, _, err := l.Append(batch); err == nil {
			n += len(batch.Payload)
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	require.NoError(b, s.Close())
	for b.Loop() {
		s, err := log.Open(log.Options{Dir: dir})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}
