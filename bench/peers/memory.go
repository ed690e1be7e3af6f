package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"
)

// raw is a client that does the least: its memory must not be in the way.
type raw struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialRaw(p *peer) (*raw, error) {
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	c := &raw{conn, bufio.NewReaderSize(conn, 4096)}
	if _, err := c.r.ReadString('\n'); err != nil {
		return nil, err
	}
	_, err = conn.Write([]byte("CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n"))
	if err != nil {
		return nil, err
	}
	return c, c.ping()
}

// ping waits until everything that was sent is done.
func (c *raw) ping() error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "PONG") {
			return err
		}
		if strings.HasPrefix(line, "-ERR") {
			return fmt.Errorf("the server says %s", line)
		}
	}
}

// grown returns how many bytes of memory the server takes for each of the n things that f makes.
func grown(p *peer, n int, f func() error) (s sample, err error) {
	before, err := p.memory()
	if err != nil {
		return s, err
	}
	if err := f(); err != nil {
		return s, err
	}
	after, err := p.memory()
	s.value = (after - before) / float64(n)
	return s, err
}

func idleConnections(_ *tools, p *peer) (s sample, err error) {
	const warm, n = 100, 5000
	var conns []*raw
	defer func() {
		for _, c := range conns {
			_ = c.conn.Close()
		}
	}()
	open := func(n int) error {
		for range n {
			c, err := dialRaw(p)
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	}
	if err := open(warm); err != nil {
		return s, err
	}
	s, err = grown(p, n, func() error { return open(n) })
	s.value /= 1000
	return s, err
}

func subscriptions(_ *tools, p *peer) (s sample, err error) {
	const n, conns = 1_000_000, 10
	var open []*raw
	defer func() {
		for _, c := range open {
			_ = c.conn.Close()
		}
	}()
	return grown(p, n, func() error {
		for c := range conns {
			client, err := dialRaw(p)
			if err != nil {
				return err
			}
			open = append(open, client)
			w := bufio.NewWriterSize(client.conn, 32<<10)
			for i := range n / conns {
				if _, err := fmt.Fprintf(w, "SUB orders.eu.%d.paid %d\r\n", c*n/conns+i, i); err != nil {
					return err
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if err := client.ping(); err != nil {
				return err
			}
		}
		return nil
	})
}
