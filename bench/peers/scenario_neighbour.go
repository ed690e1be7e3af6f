package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// quietBeside begins the names of the scenarios in which a connection that does little has a neighbour.
const quietBeside = "quiet connection beside "

const (
	quietSpan  = span / 2               // how long the quiet connection is measured each time
	quietPause = 300 * time.Microsecond // between its messages
)

func neighbourScenarios() (all []scenario) {
	for _, n := range neighbours {
		all = append(all, scenario{
			name: quietBeside + n.name, systems: []string{"nats", "rafka-nats"}, maxRounds: sideRounds,
			run: func(s *server) (outcome, error) { return besideNeighbour(s, &n) },
		})
	}
	return all
}

// besideNeighbour measures the round trips of a quiet connection alone, beside a neighbour, and to a second server, which
// has nothing else to do, while the first one has the neighbour: so much is due to the machine.
func besideNeighbour(s *server, n *neighbour) (o outcome, err error) {
	idle, err := s.another()
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, idle.remove()) }()
	here, err := newQuietConn(s)
	if err != nil {
		return o, err
	}
	defer here.close()
	there, err := newQuietConn(idle)
	if err != nil {
		return o, err
	}
	defer there.close()
	o.figures = figures{}
	if err := here.measure(o.figures, "alone "); err != nil {
		return o, err
	}
	end, err := n.move(s.addr)
	if err != nil {
		return o, err
	}
	time.Sleep(warmUp)
	err = errors.Join(here.measure(o.figures, "beside "), there.measure(o.figures, "idle "))
	return o, errors.Join(err, end())
}

// another starts a second server of the same system. The caller removes it.
func (s *server) another() (*server, error) {
	programs := map[string]string{s.sys.program: s.args[0], "nats": s.natsTool}
	return boot(s.sys, programs, filepath.Dir(s.dir))
}

// quietConn is a connection in the NATS protocol that sends messages to itself, one at a time. It blocks in system calls: the
// Go runtime would add waiting of its own.
type quietConn struct {
	conn *os.File
	in   *bufio.Reader
}

const quietMessage = "0123456789abcdef"

func newQuietConn(s *server) (*quietConn, error) {
	c, err := greet(s)
	if err != nil {
		return nil, err
	}
	defer c.Close() // File has made a copy
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	q := &quietConn{conn: f, in: bufio.NewReader(f)}
	_, err = io.WriteString(f, "SUB quiet 1\r\n")
	return q, err
}

func (q *quietConn) close() { _ = q.conn.Close() }

// measure adds the percentiles of the round trips.
func (q *quietConn) measure(f figures, prefix string) error {
	defer sleepExactly()()
	took := newHistogram()
	for end := time.Now().Add(quietSpan); time.Now().Before(end); sleepUntil(time.Now().Add(quietPause)) {
		if err := q.roundTrip(took); err != nil {
			return err
		}
	}
	addPercentiles(f, prefix, took)
	return nil
}

func (q *quietConn) roundTrip(took *hdrhistogram.Histogram) error {
	start := time.Now()
	if _, err := fmt.Fprintf(q.conn, "PUB quiet %d\r\n%s\r\n", len(quietMessage), quietMessage); err != nil {
		return err
	}
	for {
		line, err := q.in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "PING"):
			_, err = io.WriteString(q.conn, "PONG\r\n")
		case strings.HasPrefix(line, "MSG quiet 1 "):
			record(took, time.Since(start))
			return expectLine(q.in, quietMessage)
		default:
			err = fmt.Errorf("the server answers %q", line)
		}
		if err != nil {
			return err
		}
	}
}
