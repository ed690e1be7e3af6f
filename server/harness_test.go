package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// waitLimit is how long a test waits for what must happen.
const waitLimit = 20 * time.Second

// startServer starts a broker on a free port and stops it when the test ends. However busy the machine is,
// its clients may take their time to log in.
func startServer(t testing.TB, o Options) *Server {
	t.Helper()
	o.AuthTimeout = cmp.Or(o.AuthTimeout, waitLimit)
	o.TLS.Timeout = cmp.Or(o.TLS.Timeout, waitLimit)
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	srv, err := New(o)
	require.NoError(t, err)
	require.NoError(t, srv.Start())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		require.NoError(t, srv.Shutdown(ctx))
	})
	return srv
}

// peer is a binary client that sees every frame.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	next uint32
	info info // the greeting
}

// connect dials the server and skips its greeting.
func connect(t testing.TB, srv *Server) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Addr().String())
	require.NoError(t, err)
	return greet(t, conn)
}

func greet(t testing.TB, conn net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(waitLimit)))
	p := &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
	line, err := p.r.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^INFO \{.*\}\r\n$`, line)
	require.NoError(t, json.Unmarshal([]byte(line[5:]), &p.info))
	return p
}

// login connects and says hello.
func login(t testing.TB, srv *Server) *peer {
	t.Helper()
	p := connect(t, srv)
	p.hello()
	return p
}

func (p *peer) hello() {
	p.t.Helper()
	p.write(wire.AppendPreface(nil))
	hello := wire.Hello{Name: "test"}
	f := p.call(wire.OpHello, 0, hello.Append)
	require.Zero(p.t, f.Flags)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	require.NoError(p.t, err)
}

// send writes a request and returns its correlation id.
func (p *peer) send(op wire.Op, flags wire.Flags, body func([]byte) []byte) uint32 {
	p.t.Helper()
	p.next++
	p.write(request1(op, flags, p.next, body))
	return p.next
}

func request1(op wire.Op, flags wire.Flags, correlation uint32, body func([]byte) []byte) []byte {
	dst, at := wire.BeginFrame(nil, op, flags, correlation)
	if body != nil {
		dst = body(dst)
	}
	return wire.EndFrame(dst, at)
}

// read returns the next frame.
func (p *peer) read() wire.Frame {
	p.t.Helper()
	f, err := p.tryRead()
	require.NoError(p.t, err)
	return f
}

func (p *peer) tryRead() (wire.Frame, error) {
	head, err := p.r.Peek(4)
	if err != nil {
		return wire.Frame{}, err
	}
	frame := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16|int(head[3])<<24+4)
	for n := 0; n < len(frame); {
		m, err := p.r.Read(frame[n:])
		if err != nil {
			return wire.Frame{}, err
		}
		n += m
	}
	f, _, _, _, err := wire.NextFrame(frame, wire.MaxReplyBytes)
	return f, err
}

// call sends a request and returns its reply, which must be the next frame.
func (p *peer) call(op wire.Op, flags wire.Flags, body func([]byte) []byte) wire.Frame {
	p.t.Helper()
	id := p.send(op, flags, body)
	f := p.read()
	require.Equal(p.t, op|wire.OpReply, f.Op)
	require.Equal(p.t, id, f.Correlation)
	return f
}

// refused calls and expects an error of the given code.
func (p *peer) refused(code wire.Code, op wire.Op, flags wire.Flags, body func([]byte) []byte) *wire.Error {
	p.t.Helper()
	return errorOf(p.t, code, p.call(op, flags, body))
}

func errorOf(t testing.TB, code wire.Code, f wire.Frame) *wire.Error {
	t.Helper()
	require.Equal(t, wire.FlagError, f.Flags&wire.FlagError, "%s must be refused", f.Op)
	var e wire.Error
	require.NoError(t, e.Parse(f.Body))
	require.Equal(t, code, e.Code, "%v", &e)
	return &e
}

// resolve returns the handle of a topic, creating it.
func (p *peer) resolve(topic string) wire.ResolveReply {
	p.t.Helper()
	m := wire.Resolve{Topic: topic}
	f := p.call(wire.OpResolve, wire.FlagCreate, m.Append)
	require.Zero(p.t, f.Flags, "%q", f.Body)
	var reply wire.ResolveReply
	require.NoError(p.t, reply.Parse(f.Body))
	return reply
}

// batchOf returns an encoded batch of the given values.
func batchOf(values ...string) []byte {
	var b wire.BatchBuilder
	for _, v := range values {
		b.Add(wire.Record{Value: []byte(v)})
	}
	return append([]byte(nil), b.Bytes()...)
}

func publishBody(handle, partition uint16, batch []byte) func([]byte) []byte {
	m := wire.Publish{Handle: handle, Partition: partition, Batch: batch}
	return m.Append
}

// publish publishes values and returns the offset of the first.
func (p *peer) publish(handle, partition uint16, values ...string) uint64 {
	p.t.Helper()
	f := p.call(wire.OpPublish, 0, publishBody(handle, partition, batchOf(values...)))
	require.Zero(p.t, f.Flags&wire.FlagError, "%q", f.Body)
	var reply wire.PublishReply
	require.NoError(p.t, reply.Parse(f.Body, f.Flags))
	return reply.Base
}

// fetch returns the values of the entries from an offset on.
func (p *peer) fetch(m wire.Fetch) ([]string, wire.Entries) {
	p.t.Helper()
	f := p.call(wire.OpFetch, 0, m.Append)
	require.Zero(p.t, f.Flags, "%q", f.Body)
	var reply wire.Entries
	require.NoError(p.t, reply.Parse(f.Body))
	return valuesOf(p.t, reply.Bytes), reply
}

// valuesOf decodes entries.
func valuesOf(t testing.TB, entries []byte) (values []string) {
	t.Helper()
	for len(entries) > 0 {
		e, rest, err := wire.ViewEntry(entries)
		require.NoError(t, err)
		require.True(t, wire.PayloadOK(e.Payload))
		batch, err := wire.ParseBatch(e.Payload)
		require.NoError(t, err)
		for rec, err := range batch.Records() {
			require.NoError(t, err)
			values = append(values, string(rec.Value))
		}
		entries = rest
	}
	return values
}
