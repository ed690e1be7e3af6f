package server

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// The reply to a publish extends the last one only while that is in the output buffer. One of an earlier turn was sent, and
// what is in its place now is something else.
func TestAReplyThatWasSentIsNotExtended(t *testing.T) {
	p := login(t, startServer(t, Options{}))
	h := p.resolve("t").Handle
	p.next = 100
	first := p.call(wire.OpPublish, 0, publishBody(h, 0, batchOf("a")))
	require.Zero(t, first.Flags&wire.FlagError, "%q", first.Body)

	same := bytes.Repeat([]byte{'x'}, len(first.Body)) // its reply is as long as that of the publish
	ping := request1(wire.OpPing, 0, 7, func(dst []byte) []byte { return append(dst, same...) })
	p.write(append(ping, request1(wire.OpPublish, 0, 102, publishBody(h, 0, batchOf("b")))...))
	f := p.read()
	require.Equal(t, wire.OpPing|wire.OpReply, f.Op)
	require.Equal(t, same, f.Body)
	f = p.read()
	require.Equal(t, wire.OpPublish|wire.OpReply, f.Op)
	require.Equal(t, uint32(102), f.Correlation)
	require.Zero(t, f.Flags&wire.FlagRange, "the first publish was answered before")
}
