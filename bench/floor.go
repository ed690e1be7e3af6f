package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/rafka-mq/rafka/internal/loopback"
	"github.com/rafka-mq/rafka/wire"
)

// Floor runs one of the servers to compare with. Compare starts it as a process of its own. Floor listens
// on a free loopback port, writes the address as one line to out, and serves until an error. kind is one
// of these, and size is the N of the first three, in decimal; the others ignore it but need a number:
//
//	sink        reads frames of N bytes and sends one acknowledgement per read, with blocking calls
//	source      answers each fetch with N bytes of entries, always the same ones, with blocking calls
//	cold-source is a source that goes round 64 MiB of entries, more than the processor's caches hold
//	gnet-echo   echoes what it receives, on gnet with one event loop
//	net-echo    echoes what it receives, with one goroutine per connection
func Floor(kind, size string, out io.Writer) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	set := net.ListenConfig{Control: loopback.Control}
	l, err := set.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var serve func(net.Listener) error
	switch kind {
	case "sink":
		serve = blockingServer(func(c *fdConn) error { return sink(c, n) })
	case "source":
		serve = blockingServer(source(n, 1))
	case "cold-source":
		serve = blockingServer(source(n, hotBacklog/n))
	case "net-echo":
		serve = netEcho
	case "gnet-echo":
		serve = gnetEcho
	}
	if serve != nil {
		fmt.Fprintln(out, l.Addr())
		return serve(l)
	}
	return errors.Join(fmt.Errorf("no floor is called %q: there are sink, source, cold-source, gnet-echo and net-echo", kind), l.Close())
}

// blockingServer returns a server that calls serve for each connection, on a thread of its own.
func blockingServer(serve func(*fdConn) error) func(net.Listener) error {
	return func(l net.Listener) error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			c, err := blocking(conn.(*net.TCPConn))
			if err != nil {
				return err
			}
			go func() {
				runtime.LockOSThread()
				_ = serve(c) // ends with the connection
				c.close()
			}()
		}
	}
}

// sink acknowledges as the broker does: with one frame for all the publish frames that one read completes.
func sink(c *fdConn, frame int) error {
	left, id := 0, uint32(0)
	var out []byte
	for {
		b, err := c.read()
		if err != nil {
			return err
		}
		n := (left + len(b)) / frame
		left = (left + len(b)) % frame
		if n == 0 {
			continue
		}
		flags := wire.Flags(wire.LevelMemory)
		if n > 1 {
			flags |= wire.FlagRange
		}
		dst, at := wire.BeginFrame(out[:0], wire.OpPublish|wire.OpReply, flags, id)
		out = wire.EndFrame(wire.PublishReply{Base: uint64(id), Extra: uint32(n - 1)}.Append(dst, flags), at)
		if err := c.write(out); err != nil {
			return err
		}
		id += uint32(n)
	}
}

// source returns a function that answers every request with a fetch reply that holds one of count pieces of size
// bytes, in turn.
func source(size, count int) func(c *fdConn) error {
	pieces := make([]byte, size*count)
	for i := 0; i < len(pieces); i += 512 { // memory that was never written to is one page of zeros
		pieces[i] = 1
	}
	return func(c *fdConn) error { return sendPieces(c, pieces, size) }
}

func sendPieces(c *fdConn, pieces []byte, size int) error {
	count := len(pieces) / size
	var body wire.Entries
	for {
		f, err := c.frame()
		if err != nil {
			return err
		}
		at := int(body.Next) % count * size
		body.Bytes = pieces[at : at+size]
		body.Next++
		head := wire.AppendHeader(nil, f.Op|wire.OpReply, 0, f.Correlation, wire.EntriesFixed+size)
		if err := c.write(body.AppendFixed(head)); err != nil {
			return err
		}
		if err := c.write(body.Bytes); err != nil {
			return err
		}
	}
}

// netEcho hides the connection's ReadFrom and WriteTo from io.Copy: with splice the data would not
// pass through this process.
func netEcho(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
		}()
	}
}

// echo is a gnet event handler that sends back what it receives.
type echo struct{ gnet.BuiltinEventEngine }

func (*echo) OnTraffic(c gnet.Conn) gnet.Action {
	b, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	_, _ = c.Write(b)
	_, _ = c.Discard(-1)
	return gnet.None
}

// gnetEcho accepts with the standard library and hands the connections to gnet.
func gnetEcho(l net.Listener) error {
	client, err := gnet.NewClient(&echo{}, gnet.WithNumEventLoop(1), gnet.WithReadBufferCap(256<<10),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithLogLevel(logging.ErrorLevel))
	if err == nil {
		err = client.Start()
	}
	for err == nil {
		var conn net.Conn
		if conn, err = l.Accept(); err == nil {
			_, err = client.Enroll(conn)
		}
	}
	return err
}

// bareFile creates a file of size bytes for the disk floors. All its blocks are written and synced, so
// that later writes do not allocate. The caller closes and removes it.
func bareFile(dir string, size int64) (*os.File, error) {
	f, err := os.CreateTemp(dir, "floor")
	if err != nil {
		return nil, err
	}
	block := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.WriteAt(block, at); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, f.Sync()
}
