package server

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A connection with a loop of its own leaves nothing behind: partitions outlive it by far.
func TestTheLoopOfAStreamGoesWithItsConnection(t *testing.T) {
	srv := startServer(t, Options{Listen: off})
	conn, err := srv.Dial(t.Context())
	require.NoError(t, err)
	p := greet(t, conn)
	p.hello()
	m := wire.Subscribe{Handle: p.resolve("t").Handle, Credit: 1000}
	require.Zero(t, p.call(wire.OpSubscribe, 0, m.Append).Flags)

	srv.streamMu.Lock()
	require.Len(t, srv.streams, 1)
	var l weak.Pointer[loop]
	for own := range srv.streams {
		l = weak.Make(own)
	}
	srv.streamMu.Unlock()
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool {
		runtime.GC()
		return l.Value() == nil
	}, waitLimit, 10*time.Millisecond)
}
