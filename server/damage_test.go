package server

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// damage flips a bit of value in the segments of a disk.
func damage(t *testing.T, disk *faultfs.Disk, value string) {
	t.Helper()
	for _, name := range disk.Names() {
		b := disk.Bytes(name)
		if at := bytes.Index(b, []byte(value)); at >= 0 && strings.HasSuffix(name, ".seg") {
			b[at] ^= 1
			disk.SetBytes(name, b)
			return
		}
	}
	t.Fatalf("%q is in no segment", value)
}

// A message is given up after too many deliveries. Damage in front of it must not use them up: nobody has seen it.
func TestDamageCostsOtherMessagesOfAQueueNoDelivery(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk})
	p := login(t, srv)
	h := p.resolve("jobs").Handle
	for i := range 6 {
		p.publish(h, 0, fmt.Sprintf("message %d", i))
	}
	require.NoError(t, srv.Shutdown(t.Context()))
	disk = disk.Clone()
	for _, i := range []int{1, 2, 4} {
		damage(t, disk, fmt.Sprintf("message %d", i))
	}

	srv = startServer(t, Options{Dir: "/data", FS: disk})
	p = login(t, srv)
	h = p.resolve("jobs").Handle
	open := wire.OpenQueue{Handle: h, Group: "q", BackoffMinMs: 1, BackoffMaxMs: 1}
	require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
	lease := wire.Lease{Handle: h, Group: []byte("q"), MaxMessages: 10, MaxBytes: 1 << 20, MaxWaitMs: 100}
	attempts := map[uint64]uint32{}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for len(attempts) < 3 && ctx.Err() == nil {
		f := p.call(wire.OpLease, 0, lease.Append)
		if f.Flags&wire.FlagError != 0 {
			continue // says which messages are lost
		}
		var m wire.Leased
		require.NoError(t, m.Parse(f.Body))
		for _, r := range m.Ranges {
			for i := range uint64(r.Count) {
				attempts[r.First+i] = r.Attempt
			}
		}
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, map[uint64]uint32{0: 1, 3: 1, 5: 1}, attempts)
}

// A subscription ends at damage, with a frame that names the lost records, and another one goes on behind them. The
// connection carries both.
func TestASubscriptionEndsAtDamage(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	for i := range 4 {
		p.publish(h, 0, fmt.Sprintf("message %d", i))
	}
	require.NoError(t, srv.Shutdown(t.Context()))
	disk = disk.Clone()
	damage(t, disk, "message 1")
	srv = startServer(t, Options{Dir: "/data", FS: disk})
	p = login(t, srv)
	h = p.resolve("orders").Handle

	for _, filter := range []wire.Filter{nil, {{Op: wire.FilterMissing, Name: "test"}}} {
		m := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 20, Filter: filter}
		read := func(want ...string) wire.Frame {
			t.Helper()
			id := p.send(wire.OpSubscribe, 0, m.Append)
			require.Equal(t, wire.OpSubscribe|wire.OpReply, p.read().Op)
			var got []string
			for {
				f := p.read()
				require.Equal(t, wire.OpDeliver, f.Op)
				require.Equal(t, id, f.Correlation)
				if f.Flags&wire.FlagError != 0 {
					require.Equal(t, want, got)
					return f
				}
				var e wire.Entries
				require.NoError(t, e.Parse(f.Body))
				if got = append(got, valuesOf(t, e.Bytes)...); len(got) == len(want) && e.Next == 4 {
					require.Equal(t, want, got)
					return f
				}
			}
		}
		e := errorOf(t, wire.CodeCorruptRange, read("message 0"))
		require.Equal(t, []uint64{1, 2}, []uint64{e.First, e.Next})
		p.refused(wire.CodeSubscriptionNotFound, wire.OpUnsubscribe, 0, wire.Unsubscribe{Subscription: p.next}.Append)
		m.From = wire.Position{Value: e.Next}
		read("message 2", "message 3")
		require.Zero(t, p.call(wire.OpUnsubscribe, 0, wire.Unsubscribe{Subscription: p.next}.Append).Flags)
	}
}
