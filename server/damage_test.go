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
