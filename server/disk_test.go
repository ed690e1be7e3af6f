package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// commitTo commits an offset of partition 0 and returns the reply.
func (p *peer) commitTo(h uint16, group string, offset uint64) wire.Frame {
	p.t.Helper()
	m := wire.Commit{Handle: h, Group: []byte(group), Offsets: []wire.PartitionOffset{{Offset: offset}}}
	return p.call(wire.OpCommit, 0, m.Append)
}

// committed returns the offset that a group committed for partition 0.
func (p *peer) committed(h uint16, group string) uint64 {
	p.t.Helper()
	q := wire.Committed{Handle: h, Group: group}
	var reply wire.CommittedReply
	require.NoError(p.t, reply.Parse(p.call(wire.OpCommitted, 0, q.Append).Body))
	require.Len(p.t, reply.Offsets, 1)
	return reply.Offsets[0].Offset
}

// fetchAll returns the values of partition 0 from the start.
func (p *peer) fetchAll(h uint16) (values []string) {
	p.t.Helper()
	m := wire.Fetch{Handle: h, MaxBytes: 4 << 20}
	for {
		got, reply := p.fetch(m)
		if len(got) == 0 {
			return values
		}
		values = append(values, got...)
		m.From.Value = reply.Next
	}
}

// TestAFailingDiskStopsWhatItHitsAndNothingElse lets writes or flushes of the commit log fail for as
// long as one publish takes.
func TestAFailingDiskStopsWhatItHitsAndNothingElse(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.OpWrite, faultfs.OpSync} {
		t.Run(string(op), func(t *testing.T) {
			disk := faultfs.New()
			srv := startServer(t, Options{Dir: "/data", FS: disk, MemoryBytes: 32 << 20})
			p := login(t, srv)
			hit, other := p.resolve("hit").Handle, p.resolve("other").Handle
			p.publish(hit, 0, "a", "b")
			p.publish(other, 0, "a")
			require.Zero(t, p.commitTo(hit, "audit", 1).Flags)

			disk.Fail(func(o faultfs.Op, name string) error {
				if o == op && strings.HasPrefix(name, "/data/commit/") {
					return unix.EIO
				}
				return nil
			})
			e := p.refused(wire.CodeStorage, wire.OpPublish, 0, publishBody(hit, 0, batchOf("lost?")))
			require.Equal(t, wire.RetryUnknown, e.Retry)
			disk.Fail(nil)
			e = p.refused(wire.CodeReadOnly, wire.OpPublish, 0, publishBody(hit, 0, batchOf("refused")))
			require.Equal(t, wire.RetryNever, e.Retry)
			require.Equal(t, []string{"a", "b"}, p.fetchAll(hit), "reads go on, and show only what is durable")
			require.Equal(t, uint64(1), p.committed(hit, "audit"))
			p.publish(other, 0, "b")
			require.Zero(t, p.commitTo(other, "audit", 2).Flags, "other topics go on")
			require.Equal(t, []string{"a", "b"}, p.fetchAll(other))

			after := disk.Clone() // the process is killed here
			srv = startServer(t, Options{Dir: "/data", FS: after, MemoryBytes: 32 << 20})
			p = login(t, srv)
			hit, other = p.resolve("hit").Handle, p.resolve("other").Handle
			require.Equal(t, []string{"a", "b"}, p.fetchAll(other))
			require.Equal(t, uint64(2), p.committed(other, "audit"))
			require.Equal(t, []string{"a", "b"}, p.fetchAll(hit)[:2])
			require.Equal(t, uint64(1), p.committed(hit, "audit"))
			p.publish(hit, 0, "writable again")
		})
	}
}

// A kernel makes a file system read-only when its device fails, under a broker that runs.
func TestAFileSystemThatBecomesReadOnly(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk, MemoryBytes: 32 << 20, Admin: "127.0.0.1:0"})
	p := login(t, srv)
	hit, other := p.resolve("hit").Handle, p.resolve("other").Handle
	p.publish(hit, 0, "a", "b")
	p.publish(other, 0, "a")
	require.Zero(t, p.commitTo(hit, "audit", 1).Flags)
	answers(t, srv, "/readyz", http.StatusOK, "ok\n")

	disk.Fail(func(faultfs.Op, string) error { return unix.EROFS })
	for _, h := range []uint16{hit, other} {
		e := p.refused(wire.CodeStorage, wire.OpPublish, 0, publishBody(h, 0, batchOf("lost?")))
		require.Contains(t, e.Detail, unix.EROFS.Error())
		require.Equal(t, wire.RetryUnknown, e.Retry)
		e = p.refused(wire.CodeReadOnly, wire.OpPublish, 0, publishBody(h, 0, batchOf("refused")))
		require.Equal(t, wire.RetryNever, e.Retry)
	}
	answers(t, srv, "/readyz", http.StatusServiceUnavailable, storageFailed)
	answers(t, srv, "/healthz", http.StatusServiceUnavailable, storageFailed)
	create := wire.CreateTopic{Topic: "new", Partitions: 1}
	require.NotZero(t, p.call(wire.OpCreateTopic, 0, create.Append).Flags&wire.FlagError)
	require.NotZero(t, p.commitTo(hit, "audit", 2).Flags&wire.FlagError)
	require.Equal(t, []string{"a", "b"}, p.fetchAll(hit), "reads go on")
	require.Equal(t, []string{"a"}, p.fetchAll(other))
	answers(t, srv, "/readyz", http.StatusServiceUnavailable, storageFailed)

	after := disk.Clone() // the process is killed here, and the file system repaired
	disk.Fail(nil)
	srv = startServer(t, Options{Dir: "/data", FS: after, MemoryBytes: 32 << 20})
	p = login(t, srv)
	hit, other = p.resolve("hit").Handle, p.resolve("other").Handle
	require.Equal(t, []string{"a", "b"}, p.fetchAll(hit)[:2])
	require.Equal(t, "a", p.fetchAll(other)[0])
	require.Equal(t, uint64(1), p.committed(hit, "audit"))
	p.publish(hit, 0, "writable again")
}

// smallDisk is a disk that can be filled up.
type smallDisk struct {
	dir  string
	fs   log.FS // nil is the operating system's
	fill func() // leaves a few MiB
	free func()
}

func simulatedDisk(*testing.T) *smallDisk {
	disk := faultfs.New()
	return &smallDisk{
		dir: "/data", fs: disk,
		fill: func() { disk.SetCapacity(disk.Used() + 8<<20) },
		free: func() { disk.SetCapacity(0) },
	}
}

func TestAFullDiskRefusesPublishesUntilThereIsSpace(t *testing.T) {
	for name, create := range map[string]func(*testing.T) *smallDisk{
		"simulated": simulatedDisk, "mounted": mountedDisk, "tiny": tinyDisk,
	} {
		t.Run(name, func(t *testing.T) {
			disk := create(t)
			o := Options{Listen: "127.0.0.1:0", Dir: disk.dir, FS: disk.fs, MemoryBytes: 64 << 20}
			srv, err := New(o)
			require.NoError(t, err)
			require.NoError(t, srv.Start())
			p := login(t, srv)
			h, other := p.resolve("orders").Handle, p.resolve("other").Handle
			p.publish(h, 0, "before")
			p.publish(other, 0, "before")
			disk.fill()

			want := []string{"before"}
			filler := string(bytes.Repeat([]byte{'f'}, 900<<10))
			for full := false; !full; {
				value := fmt.Sprint(len(want), filler)
				f := p.call(wire.OpPublish, 0, publishBody(h, 0, batchOf(value)))
				if full = f.Flags&wire.FlagError != 0; full {
					require.Equal(t, wire.RetryLater, errorOf(t, wire.CodeStorageFull, f).Retry)
					break
				}
				want = append(want, value)
				require.Less(t, len(want), 500, "the disk never runs full")
			}
			p.refused(wire.CodeStorageFull, wire.OpPublish, 0, publishBody(other, 0, batchOf("x")))
			for i := range uint64(100) {
				require.Zero(t, p.commitTo(h, "audit", i%uint64(len(want)+1)).Flags, "commits go on")
			}
			require.Zero(t, p.commitTo(h, "audit", uint64(len(want))).Flags)
			require.Equal(t, want, p.fetchAll(h), "reads go on")

			require.NoError(t, srv.Shutdown(t.Context()), "nothing is lost on the full disk")
			srv, err = New(o)
			require.NoError(t, err)
			require.NoError(t, srv.Start())
			p = login(t, srv)
			h, other = p.resolve("orders").Handle, p.resolve("other").Handle
			require.Equal(t, want, p.fetchAll(h))
			require.Equal(t, uint64(len(want)), p.committed(h, "audit"))

			disk.free()
			require.Eventually(t, func() bool {
				f := p.call(wire.OpPublish, 0, publishBody(h, 0, batchOf("after")))
				return f.Flags&wire.FlagError == 0
			}, waitLimit, 10*time.Millisecond)
			want = append(want, "after")
			p.publish(other, 0, "after")
			require.NoError(t, srv.Shutdown(t.Context()))

			srv = startServer(t, o)
			p = login(t, srv)
			h, other = p.resolve("orders").Handle, p.resolve("other").Handle
			require.Equal(t, want, p.fetchAll(h))
			require.Equal(t, []string{"before", "after"}, p.fetchAll(other))
			require.Equal(t, uint64(len(want)-1), p.committed(h, "audit"))
			require.NoError(t, srv.Shutdown(context.Background())) // before the file system is unmounted
		})
	}
}

// Requests that wait for space keep nobody from stopping the broker.
func TestAStopDoesNotWaitForSpace(t *testing.T) {
	disk := faultfs.New()
	srv, err := New(Options{Listen: "127.0.0.1:0", Dir: "/data", FS: disk, MemoryBytes: 32 << 20})
	require.NoError(t, err)
	require.NoError(t, srv.Start())
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "before")
	disk.Fail(func(op faultfs.Op, _ string) error {
		if op == faultfs.OpWrite || op == faultfs.OpAllocate {
			return unix.ENOSPC
		}
		return nil
	})
	waits := p.send(wire.OpPublish, 0, publishBody(h, 0, batchOf("waits")))
	require.Eventually(t, func() bool { return srv.store.Stats().Full }, waitLimit, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	require.ErrorIs(t, srv.Shutdown(ctx), log.ErrFull, "what waits is not on the disk")
	require.NoError(t, ctx.Err(), "it waited")
	for {
		f, err := p.tryRead()
		if err != nil {
			break
		}
		require.NotEqual(t, waits, f.Correlation, "nobody knows whether the next start finds it")
	}

	disk.Fail(nil)
	p = login(t, startServer(t, Options{Dir: "/data", FS: disk, MemoryBytes: 32 << 20}))
	require.Equal(t, "before", p.fetchAll(p.resolve("orders").Handle)[0])
}
