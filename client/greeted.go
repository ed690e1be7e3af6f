package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"sync/atomic"
)

// maxInfo bounds the greeting line.
const maxInfo = 64 << 10

// greeted is a connection that hides the line "INFO {json}\r\n", which the broker sends first.
// Frames may be written before the line has arrived. With TLS the line comes in the clear, before
// the handshake.
type greeted struct {
	net.Conn
	passed bool
	info   []byte        // the JSON of the line
	rest   []byte        // read together with the line, and not returned yet
	reads  atomic.Uint64 // how many reads returned something; it does not change on a silent connection
}

var infoPrefix = []byte("INFO ")

func (g *greeted) Read(p []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	if len(g.rest) > 0 {
		n := copy(p, g.rest)
		g.rest = g.rest[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p)
	if n > 0 {
		g.reads.Add(1)
	}
	return n, err
}

// pass reads the line unless that is done.
func (g *greeted) pass() error {
	if g.passed {
		return nil
	}
	err := g.skip()
	g.passed = err == nil
	return err
}

// nonce returns what the greeting asks the client to sign, or "".
func (g *greeted) nonce() (string, error) {
	if err := g.pass(); err != nil || len(g.info) == 0 {
		return "", err
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(g.info, &info); err != nil {
		return "", fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return info.Nonce, nil
}

// skip reads until it knows whether there is a line, and where it ends.
func (g *greeted) skip() error {
	buf := make([]byte, 0, 4<<10)
	for {
		head := min(len(buf), len(infoPrefix))
		if !bytes.Equal(buf[:head], infoPrefix[:head]) {
			g.rest = buf
			return wrongProtocol(buf)
		}
		if end := bytes.Index(buf, []byte("\r\n")); end >= 0 {
			g.info, g.rest = buf[len(infoPrefix):end], buf[end+2:]
			return nil
		}
		if len(buf) > maxInfo {
			return fmt.Errorf("%w: a greeting of more than %d bytes", ErrProtocol, maxInfo)
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := g.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 && err != nil {
			return err
		}
	}
}

// wrongProtocol returns an error when b, the first bytes, certainly came from an HTTP server. A
// frame begins with its length, whose low byte may be any letter, so a few more bytes are needed to
// tell.
func wrongProtocol(b []byte) error {
	if bytes.HasPrefix(b, []byte("HTTP/")) || bytes.HasPrefix(b, []byte("<htm")) {
		return fmt.Errorf("%w: the other side speaks HTTP; is this the admin port?", ErrProtocol)
	}
	return nil
}
