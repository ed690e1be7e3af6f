package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/rafka-mq/rafka/wire"
)

// The functions below do the shortest handshake of each protocol on a bare connection. A client would take
// memory of its own, which matters with many connections.

func natsHello(c net.Conn) error {
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // INFO
		return err
	}
	if _, err := io.WriteString(c, natsConnect+"PING\r\n"); err != nil {
		return err
	}
	return expectLine(r, "PONG")
}

const natsConnect = `CONNECT {"verbose":false,"pedantic":false,"protocol":1,"headers":true,"no_responders":true}` + "\r\n"

func redisHello(c net.Conn) error {
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	return expectLine(bufio.NewReader(c), "+PONG")
}

// expectLine reads a line and fails unless it is want.
func expectLine(r *bufio.Reader, want string) error {
	line, err := r.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != want {
		return fmt.Errorf("the server answers %q", line)
	}
	return err
}

func nsqHello(c net.Conn) error {
	body := []byte("{}")
	request := binary.BigEndian.AppendUint32([]byte("  V2IDENTIFY\n"), uint32(len(body)))
	if _, err := c.Write(append(request, body...)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	answer := make([]byte, min(binary.BigEndian.Uint32(size[:]), 1<<16))
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if string(answer) != "\x00\x00\x00\x00OK" {
		return fmt.Errorf("the server answers %q", answer)
	}
	return nil
}

func rafkaHello(c net.Conn) error {
	out, at := wire.BeginFrame(wire.AppendPreface(nil), wire.OpHello, 0, 1)
	hello := wire.Hello{Name: "peers"}
	if _, err := c.Write(wire.EndFrame(hello.Append(out), at)); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil { // the greeting
		return err
	}
	for {
		buffered, err := r.Peek(max(1, r.Buffered()))
		if err != nil {
			return err
		}
		f, _, _, ok, err := wire.NextFrame(buffered, wire.MaxFrameBytes)
		switch {
		case err != nil:
			return err
		case ok && f.Flags&wire.FlagError != 0:
			return errors.New("the broker refused the handshake")
		case ok:
			return nil
		}
		if _, err := r.Peek(len(buffered) + 1); err != nil {
			return err
		}
	}
}
