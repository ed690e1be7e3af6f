package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// leanBroker answers with as little work as possible, so that a benchmark shows the client: the
// handshake and everything else like the fake broker, a publish by an acknowledgement, a fetch by
// one prepared body.
type leanBroker struct {
	ln      net.Listener
	entries []byte
	resolve []byte
}

func startLean(b *testing.B, values ...string) *leanBroker {
	fake := startBroker(b)
	topic := fake.create("t", 1)
	fake.fill("t", 0, 2000, values...)
	entries, next := topic.parts[0].from(0, 64<<20)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	s := &leanBroker{
		ln:      ln,
		entries: (&wire.Entries{Visible: next, Next: next, Bytes: entries}).Append(nil),
		resolve: (&wire.ResolveReply{Handle: 1, ID: topic.id, Partitions: 1, MaxRecord: 1 << 20}).Append(nil),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		s.serve(nc)
		_ = nc.Close()
	}()
	b.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return s
}

func (s *leanBroker) serve(nc net.Conn) {
	_, _ = io.ReadFull(nc, make([]byte, wire.PrefaceBytes))
	buf := make([]byte, 1<<20)
	var out []byte
	r, w, skip := 0, 0, 0
	for {
		n, err := nc.Read(buf[w:])
		if err != nil {
			return
		}
		w += n
		out = out[:0]
		for {
			k := min(skip, w-r)
			r, skip = r+k, skip-k
			if skip > 0 || w-r < wire.HeaderBytes {
				break
			}
			size := int(binary.LittleEndian.Uint32(buf[r:]))
			out = s.answer(out, wire.Op(buf[r+4]), binary.LittleEndian.Uint32(buf[r+6:]))
			r, skip = r+wire.HeaderBytes, size+4-wire.HeaderBytes
		}
		w = copy(buf, buf[r:w])
		r = 0
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
	}
}

func (s *leanBroker) answer(out []byte, op wire.Op, id uint32) []byte {
	var body []byte
	flags := wire.Flags(0)
	switch op {
	case wire.OpHello:
		body = (&wire.HelloReply{}).Append(nil)
	case wire.OpResolve:
		body = s.resolve
	case wire.OpFetch:
		body = s.entries
	case wire.OpPublish:
		var base [1]byte
		flags, body = wire.Flags(wire.LevelMemory), base[:]
	}
	out = wire.AppendHeader(out, op|wire.OpReply, flags, id, len(body))
	return append(out, body...)
}

func dialLean(b *testing.B, s *leanBroker) *Client {
	c, err := Dial(within(b), s.ln.Addr().String(), Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close(context.Background())) })
	return c
}

func BenchmarkPublishAsync(b *testing.B) {
	c := dialLean(b, startLean(b))
	ctx := context.Background()
	m := &Message{Topic: "t", Value: make([]byte, 128)}
	failed := error(nil)
	done := func(_ Receipt, err error) {
		if err != nil {
			failed = err
		}
	}
	b.ReportAllocs()
	b.SetBytes(128)
	for b.Loop() {
		if err := c.PublishAsync(ctx, m, done); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil || failed != nil {
		b.Fatal(err, failed)
	}
}

func BenchmarkPublish(b *testing.B) {
	c := dialLean(b, startLean(b))
	ctx := context.Background()
	m := &Message{Topic: "t", Value: make([]byte, 128)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Publish(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
}

func benchValues() []string {
	values := make([]string, 8000)
	for i := range values {
		values[i] = string(make([]byte, 128))
	}
	return values
}

func BenchmarkFetch(b *testing.B) {
	for _, release := range []bool{false, true} {
		b.Run(fmt.Sprintf("release=%t", release), func(b *testing.B) { benchmarkFetch(b, release) })
	}
}

func benchmarkFetch(b *testing.B, release bool) {
	values := benchValues()
	c := dialLean(b, startLean(b, values...))
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		f, err := c.Fetch(ctx, FetchRequest{Topic: "t", MaxBytes: 2 << 20})
		if err != nil || len(f.Messages) != len(values) {
			b.Fatal(err, len(f.Messages))
		}
		n += len(f.Messages)
		if release {
			f.Release()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/msg")
}
