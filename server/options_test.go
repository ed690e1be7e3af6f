package server

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An option that cannot be used is refused with a sentence that names it.
func TestOptionsThatCannotBeUsedAreRefused(t *testing.T) {
	f := func(o Options, mentions string) {
		t.Helper()
		_, err := New(o)
		require.ErrorContains(t, err, mentions)
	}
	f(Options{Loops: 257}, "event loops")
	f(Options{MaxPendingBytes: -1}, "negative limit")
	f(Options{MaxControlLine: 1<<20 + 1}, "MaxControlLine is over 1 MiB")
	f(Options{PingInterval: -time.Second}, "negative timeout")
	f(Options{TLS: TLSOptions{Fallback: -1}}, "negative TLS timeout")
	f(Options{TLS: TLSOptions{Config: &tls.Config{}, MapUsers: true}}, "certificates")
	f(Options{Advertise: "host"}, "host:port")
	f(Options{Advertise: "host:0"}, "host:port")
	f(Options{Name: string(make([]byte, 256))}, "255 bytes")
}
