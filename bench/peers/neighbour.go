package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// neighbour is a client that others may suffer from. It is a process of its own, so that the client that is measured
// does not wait for it within the Go runtime.
type neighbour struct {
	name  string
	visit func(addr string) error // goes on until the process is killed
}

// neighbours are heavy clients, which send as fast as the server reads, and then bad ones, which leave processor time.
var neighbours = []neighbour{
	{"publishes of 16 B", flood("", publishCommand("orders", 16))},
	{"publishes of 1 KiB", flood("", publishCommand("orders", 1<<10))},
	{"publishes of 1 MB", flood("", publishCommand("orders", 1e6))},
	{"publishes of 16 B to itself", flood("SUB orders 1\r\n", publishCommand("orders", 16))},
	{"PING", flood("", "PING\r\n")},
	{"SUB and UNSUB", flood("", "SUB orders 1\r\nUNSUB 1\r\n")},
	{"500 half-open connections", halfOpen},
	{"clients that send garbage and come back", garbage},
	{"a subscriber that never reads", neverRead},
}

func publishCommand(subject string, size int) string {
	return fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, size, strings.Repeat("x", size))
}

// flood sends a command as fast as the server reads, and drops what the server sends.
func flood(first, command string) func(addr string) error {
	return func(addr string) error {
		c, err := bareNATS(addr)
		if err != nil {
			return err
		}
		go io.Copy(io.Discard, c)
		if _, err := io.WriteString(c, first); err != nil {
			return err
		}
		block := []byte(strings.Repeat(command, 1+(64<<10)/len(command)))
		for {
			if _, err := c.Write(block); err != nil {
				return err
			}
		}
	}
}

// everyMs calls f every millisecond until it fails.
func everyMs(f func() error) error {
	for due := time.Now(); ; due = due.Add(time.Millisecond) {
		time.Sleep(time.Until(due))
		if err := f(); err != nil {
			return err
		}
	}
}

// halfOpen sends the commands of 500 connections byte by byte, 10,000 bytes a second over all of them.
func halfOpen(addr string) error {
	var conns []net.Conn
	for range 500 {
		c, err := bareNATS(addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	command, i := publishCommand("orders", 1<<10), 0
	return everyMs(func() error {
		for range 10 {
			at := i / len(conns) % len(command)
			if _, err := io.WriteString(conns[i%len(conns)], command[at:at+1]); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}

// garbage connects once a millisecond, sends what no server understands, and waits until it is closed.
func garbage(addr string) error {
	return everyMs(func() error {
		c, err := bareNATS(addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GARBAGE\r\n"); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, c)
		if errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		return err
	})
}

// neverRead subscribes and never reads, while 10 MB/s are published to it.
func neverRead(addr string) error {
	sub, err := bareNATS(addr)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(sub, "SUB orders 1\r\n"); err != nil {
		return err
	}
	pub, err := bareNATS(addr)
	if err != nil {
		return err
	}
	block := []byte(strings.Repeat(publishCommand("orders", 1<<10), 10))
	return everyMs(func() error {
		_, err := pub.Write(block)
		return err
	})
}

// bareNATS opens a bare connection and does the handshake.
func bareNATS(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c, natsHello(c)
}

// neighbourCommand is the first argument of a process that is a neighbour. The other two are its name and the address of
// the server.
const neighbourCommand = "neighbour"

// live is all that the process does if it was started as a neighbour.
func live() {
	if len(os.Args) != 4 || os.Args[1] != neighbourCommand {
		return
	}
	i := slices.IndexFunc(neighbours, func(n neighbour) bool { return n.name == os.Args[2] })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "no neighbour has the name %q\n", os.Args[2])
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, neighbours[i].visit(os.Args[3]))
	os.Exit(1)
}

// move starts a neighbour, and returns the function that ends it. That returns an error if the neighbour has ended
// before.
func (n *neighbour) move(addr string) (end func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.Command(self, neighbourCommand, n.name, addr)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		_ = cmd.Process.Kill() // it fails only if the process has ended, which Wait tells
		err := cmd.Wait()
		if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.Exited() {
			return fmt.Errorf("the neighbour that sends %s has ended: %s", n.name, bytes.TrimSpace(said.Bytes()))
		}
		return nil
	}, nil
}
