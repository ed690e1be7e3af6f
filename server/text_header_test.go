package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestHeaderBlocks(t *testing.T) {
	f := func(rec wire.Record, want string) {
		t.Helper()
		block := appendHeader(nil, &rec)
		require.Equal(t, want, string(block))
		if want == "" {
			return
		}
		key, headers, err := parseHeader(block)
		require.NoError(t, err)
		require.Equal(t, rec.Key, key)
		require.Equal(t, rec.Headers, headers)
	}
	f(wire.Record{}, "")
	f(wire.Record{Key: []byte("alice")}, "NATS/1.0\r\nrafka-key: alice\r\n\r\n")
	f(wire.Record{Key: []byte("")}, "NATS/1.0\r\nrafka-key: \r\n\r\n")
	f(wire.Record{Headers: wire.Headers{}.Append("A", []byte("1")).Append("A", []byte("a: b"))}, "NATS/1.0\r\nA: 1\r\nA: a: b\r\n\r\n")
	f(wire.Record{Key: []byte("k"), Headers: wire.Headers{}.Append("B", []byte(""))}, "NATS/1.0\r\nrafka-key: k\r\nB: \r\n\r\n")

	hostile := wire.Headers{}.Append("", []byte("1")).Append("a:b", []byte("1")).Append("a\r\nb", []byte("1")).
		Append("ok", []byte("1\r\nrafka-key: stolen"))
	rec := wire.Record{Key: []byte("a\r\nInjected: 1"), Headers: hostile}
	require.Equal(t, "NATS/1.0\r\nrafka-key-base64: YQ0KSW5qZWN0ZWQ6IDE=\r\nok: 1  rafka-key: stolen\r\n\r\n", string(appendHeader(nil, &rec)))
}

// The key and the message id of somebody whose lines end with LF were ignored.
func TestHeaderLinesMayEndWithLF(t *testing.T) {
	key, headers, err := parseHeader([]byte("NATS/1.0\nrafka-key: alice\nNats-Msg-Id: 7\r\nA: b\n\n"))
	require.NoError(t, err)
	require.Equal(t, "alice", string(key))
	require.Equal(t, wire.Headers{}.Append("Nats-Msg-Id", []byte("7")).Append("A", []byte("b")), headers)
}

// A broker without headers cannot tell a requester that nobody got its request.
func TestNoRespondersWithoutHeaders(t *testing.T) {
	b := newTextBroker(t, Options{NoHeaders: true})
	p := b.peer()
	p.feed("CONNECT {\"headers\":true}\r\nSUB a 1\r\nPUB a 0\r\n\r\n")
	require.Equal(t, "+OK\r\n+OK\r\n+OK\r\nMSG a 1 0\r\n\r\n", p.take())
	p = b.peer()
	p.feed("CONNECT {\"headers\":true,\"no_responders\":true}\r\n")
	require.Equal(t, "-ERR 'no responders requires headers support'\r\n", p.take())
	require.True(t, p.m.closed)
}

// What a client sends as a header never breaks the record or the next reader's header block.
func FuzzHeader(f *testing.F) {
	whole := "NATS/1.0 503 Gone\r\nrafka-key: alice\r\nTrace: 1\r\nTrace:2\r\nnonsense\r\n: x\r\n\r\n"
	for i := range len(whole) + 1 {
		f.Add([]byte(whole[:i]))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		key, headers, err := parseHeader(block)
		if err != nil {
			return
		}
		require.True(t, headers.Valid())
		rec := wire.Record{Key: key, Headers: headers}
		var b wire.BatchBuilder
		b.Add(rec)
		batch, err := wire.ParseBatch(b.Bytes())
		require.NoError(t, err)
		require.NoError(t, batch.Validate(wire.MaxFrameBytes))
		if again := appendHeader(nil, &rec); len(again) > 0 && oneLine(key) {
			sameKey, _, err := parseHeader(again)
			require.NoError(t, err)
			require.Equal(t, key, sameKey)
		}
	})
}
