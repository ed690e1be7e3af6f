package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echoNATS is a server that gives each message of 16 bytes back to its sender, after answer has changed it, and closes on
// garbage. It returns its address.
func echoNATS(t *testing.T, answer func(payload string) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, "INFO {}\r\n")
		for in := bufio.NewReader(c); ; {
			line, err := in.ReadString('\n')
			switch verb, _, _ := strings.Cut(line, " "); {
			case err != nil, strings.HasPrefix(line, "GARBAGE"):
				return
			case strings.HasPrefix(line, "PING"):
				_, _ = io.WriteString(c, "PONG\r\n")
			case verb == "PUB":
				payload, _ := in.ReadString('\n')
				_, _ = fmt.Fprintf(c, "PING\r\nMSG quiet 1 16\r\n%s\r\n", answer(strings.TrimSpace(payload)))
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func TestAQuietConnectionChecksWhatItGetsBack(t *testing.T) {
	sys, err := systemNamed("nats")
	require.NoError(t, err)
	trip := func(answer func(string) string) error {
		q, err := newQuietConn(&server{sys: &sys, addr: echoNATS(t, answer)})
		require.NoError(t, err)
		defer q.close()
		took := newHistogram()
		err = q.roundTrip(took)
		require.EqualValues(t, 1, took.TotalCount())
		return err
	}
	require.NoError(t, trip(func(s string) string { return s }))
	require.ErrorContains(t, trip(strings.ToUpper), "0123456789ABCDEF")
}

func TestANeighbourStaysUntilItIsEnded(t *testing.T) {
	addr := echoNATS(t, func(s string) string { return s })
	for _, n := range neighbours {
		end, err := n.move(addr)
		require.NoError(t, err)
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, end(), n.name)
	}
}

func TestANeighbourThatEndsIsNoticed(t *testing.T) {
	nobody, pause := neighbour{name: "nobody"}, 10*time.Millisecond
	require.Eventually(t, func() bool {
		end, err := nobody.move("127.0.0.1:0")
		require.NoError(t, err)
		time.Sleep(pause) // until it has ended
		pause *= 2
		return strings.Contains(fmt.Sprint(end()), `no neighbour has the name "nobody"`)
	}, time.Minute, time.Millisecond)
}
