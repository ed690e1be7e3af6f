package server

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// memTransport keeps what a session writes.
type memTransport struct {
	out    bytes.Buffer
	unread int // what OutboundBuffered says
	closed bool
}

func (m *memTransport) Write(b []byte) (int, error) { return m.out.Write(b) }

func (m *memTransport) Writev(bs [][]byte) (n int, err error) {
	for _, b := range bs {
		n += len(b)
		m.out.Write(b)
	}
	return n, nil
}

func (m *memTransport) OutboundBuffered() int { return m.unread }
func (m *memTransport) Close() error          { m.closed = true; return nil }
func (m *memTransport) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
}

// textBroker is a server whose loops the test drives itself.
type textBroker struct {
	t     testing.TB
	srv   *Server
	clock atomic.Int64 // in milliseconds
	loops []*loop
	rung  chan struct{}
	peers int
}

// textStart is when the clock of a textBroker begins.
var textStart = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func newTextBroker(t testing.TB, o Options) *textBroker {
	b := &textBroker{t: t, rung: make(chan struct{}, 1)}
	b.clock.Store(textStart.UnixMilli())
	o.Listen, o.Now = off, b.now
	b.srv = startServer(t, o)
	for range 2 {
		l := newLoop(b.srv)
		l.ring = func() {
			select {
			case b.rung <- struct{}{}:
			default:
			}
		}
		b.loops = append(b.loops, l)
	}
	return b
}

func (b *textBroker) now() time.Time { return time.UnixMilli(b.clock.Load()) }

// turn lets every loop do what was posted.
func (b *textBroker) turn() {
	for range 2 { // a loop may post to one before it
		for _, l := range b.loops {
			l.drain(b.now())
		}
	}
}

// busyWorkers keeps what needs a worker waiting until idle is called.
func (b *textBroker) busyWorkers() (idle func()) {
	b.t.Helper()
	release := make(chan struct{})
	for range coldReaders {
		require.NoError(b.t, b.srv.enqueue(func() { <-release }))
	}
	idle = sync.OnceFunc(func() { close(release) })
	b.t.Cleanup(idle)
	return idle
}

// until turns the loops until cond holds.
func (b *textBroker) until(cond func() bool, what string) {
	b.t.Helper()
	limit := time.NewTimer(waitLimit)
	defer limit.Stop()
	for b.turn(); !cond(); b.turn() {
		select {
		case <-b.rung:
		case <-limit.C:
			require.FailNow(b.t, "waited too long", what)
		}
	}
}

// textPeer is a session without a socket.
type textPeer struct {
	b *textBroker
	m *memTransport
	s *session
}

// peer opens a session on one of the loops in turn and skips the greeting.
func (b *textBroker) peer() *textPeer {
	l := b.loops[b.peers%len(b.loops)]
	b.peers++
	p := &textPeer{b: b, m: &memTransport{}, s: newSession(l, uint64(b.peers))}
	b.srv.connections.Add(1)
	p.s.open(p.m, b.now())
	l.endTurn(b.now())
	require.Regexp(b.t, `^INFO \{.*\}\r\n$`, p.take())
	b.t.Cleanup(p.end)
	return p
}

// end closes the connection from outside.
func (p *textPeer) end() {
	p.s.ended(p.b.now())
	p.s.loop.endTurn(p.b.now())
}

// feed sends bytes as one read.
func (p *textPeer) feed(in string) {
	p.s.loop.runInbox(p.b.now())
	p.s.receive([]byte(in), p.b.now())
	p.s.loop.endTurn(p.b.now())
}

// take returns what the session wrote since the last call.
func (p *textPeer) take() string {
	s := p.m.out.String()
	p.m.out.Reset()
	return s
}

// line waits for the next line.
func (p *textPeer) line() string {
	p.b.t.Helper()
	var line string
	p.b.until(func() bool {
		i := bytes.IndexByte(p.m.out.Bytes(), '\n')
		if i >= 0 {
			line = string(p.m.out.Next(i + 1))
		}
		return i >= 0
	}, "a line")
	return line
}

// ask sends a line and returns the next one of the answer.
func (p *textPeer) ask(line string) string {
	p.b.t.Helper()
	p.feed(line + "\r\n")
	return strings.TrimSuffix(p.line(), "\r\n")
}

// transcript plays a script. Its lines are
//
//	name> what the session sends
//	name< what it must answer
//	name~ a regular expression for what it must answer
//	name! the session must be closed
//	+5s   the clock goes on
//
// where name is any word; a session opens with its first line. Other lines are comments.
func (b *textBroker) transcript(script string) {
	b.t.Helper()
	peers := map[string]*textPeer{}
	step := regexp.MustCompile(`^(\w+)([><~!])(?: (.*))?$`)
	for i, text := range strings.Split(script, "\n") {
		if d, err := time.ParseDuration(strings.TrimPrefix(text, "+")); err == nil && strings.HasPrefix(text, "+") {
			b.clock.Add(d.Milliseconds())
			continue
		}
		m := step.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		p := peers[m[1]]
		if p == nil {
			p = b.peer()
			peers[m[1]] = p
		}
		at := fmt.Sprintf("line %d: %s", i+1, text)
		switch m[2] {
		case ">":
			p.feed(m[3] + "\r\n")
		case "<":
			require.Equal(b.t, m[3]+"\r\n", p.line(), at)
		case "~":
			require.Regexp(b.t, "^"+m[3]+"\r\n$", p.line(), at)
		case "!":
			b.until(func() bool { return p.m.closed }, at)
		}
	}
	b.turn()
	for name, p := range peers {
		require.Empty(b.t, p.take(), "%s was told more", name)
	}
}

func TestTextTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			newTextBroker(t, Options{}).transcript(string(script))
			newTextBroker(t, Options{Dir: t.TempDir()}).transcript(string(script))
		})
	}
}

// textClient is a text session over a real connection.
type textClient struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func greetText(t testing.TB, srv *Server) *textClient {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Addr().String())
	require.NoError(t, err)
	return newTextClient(t, conn)
}

func newTextClient(t testing.TB, conn net.Conn) *textClient {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(waitLimit)))
	c := &textClient{t: t, conn: conn, r: bufio.NewReader(conn)}
	line, err := c.r.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^INFO \{.*\}\r\n$`, line)
	return c
}

func (c *textClient) write(s string) {
	c.t.Helper()
	_, err := c.conn.Write([]byte(s))
	require.NoError(c.t, err)
}

// expect reads the next line.
func (c *textClient) expect(line string) {
	c.t.Helper()
	require.Equal(c.t, line, c.line())
}

// line returns the next line without its end.
func (c *textClient) line() string {
	c.t.Helper()
	got, err := c.r.ReadString('\n')
	require.NoError(c.t, err)
	return strings.TrimRight(got, "\r\n")
}

// The session in the manual is what the broker says.
func TestTextModeManual(t *testing.T) {
	script, err := os.ReadFile("../docs/text-mode.md")
	require.NoError(t, err)
	require.Contains(t, string(script), "\nyou> ")
	newTextBroker(t, Options{Dir: t.TempDir()}).transcript(string(script))
	for _, v := range humanVerbs() {
		require.Contains(t, string(script), "`"+v.name, "%s is not in the manual", v.name)
	}
}
