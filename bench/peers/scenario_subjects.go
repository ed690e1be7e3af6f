package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	newSubjectsName   = "publish to 10,000 subjects, all new within a second, 128 B"
	churnName         = "publish beside 10,000 subscriptions made and ended a second, 128 B"
	subscriptionsName = "memory, a million subscriptions"
)

// subjectScenarios publish to many subjects in the NATS protocol. They write commands that were prepared
// before: a client that spent more on a message than the server would hide the server's cost.
func subjectScenarios() []scenario {
	both := []string{"nats", "rafka-nats"}
	return []scenario{
		{name: newSubjectsName, systems: both, run: newSubjects},
		{name: churnName, systems: both, run: churn},
		{name: subscriptionsName, systems: both, run: subscriptionMemory},
	}
}

// newSubjects publishes to 10,000 subjects at a time, and replaces all of them within each second.
func newSubjects(s *server) (outcome, error) {
	const alive = 10_000
	commands := publishCommands(20 * alive)
	start, first := time.Now(), 0
	return publishCommanded(s, commands, func(i int) int {
		if i%256 == 0 {
			first = min(int(time.Since(start).Seconds()*alive), len(commands)-alive)
		}
		return first + rand.IntN(alive)
	}, func(*atomic.Bool) error { return nil })
}

// churn publishes while another connection subscribes and unsubscribes 10,000 times a second.
func churn(s *server) (outcome, error) {
	const alive, each = 1000, 10_000
	return publishCommanded(s, publishCommands(alive), func(int) int { return rand.IntN(alive) }, func(stop *atomic.Bool) error {
		c, err := greet(s)
		if err != nil {
			return err
		}
		defer c.Close()
		start := time.Now()
		for i := 0; !stop.Load(); time.Sleep(time.Millisecond) {
			var lines []byte
			for due := int(time.Since(start).Seconds() * each); i < due; i++ {
				lines = fmt.Appendf(lines, "SUB inbox.%d %d\r\nUNSUB %d\r\n", i, i, i)
			}
			if _, err := c.Write(lines); err != nil {
				return err
			}
		}
		return nil
	})
}

// publishCommands returns n PUB commands, each with a subject of its own and a payload of 128 bytes.
func publishCommands(n int) [][]byte {
	commands, payload := make([][]byte, n), strings.Repeat("x", 128)
	for i := range commands {
		commands[i] = fmt.Appendf(nil, "PUB orders.eu-%d.paid 128\r\n%s\r\n", i, payload)
	}
	return commands
}

// idleSubscriptions is how many subscriptions exist that match no published subject: without any, a
// server could skip the search.
const idleSubscriptions = 1000

// publishCommanded measures how fast a server accepts commands, while beside runs. pick returns the index
// of the i-th command to send. beside must return soon after stop is set.
func publishCommanded(s *server, commands [][]byte, pick func(i int) int, beside func(stop *atomic.Bool) error) (o outcome, err error) {
	nc, err := connectNATS(s.addr)
	if err != nil {
		return o, err
	}
	defer nc.Close()
	for i := range idleSubscriptions {
		if _, err := nc.Subscribe(fmt.Sprintf("orders.%d.other", i), func(*nats.Msg) {}); err != nil {
			return o, err
		}
	}
	c, err := greet(s)
	if err != nil {
		return o, errors.Join(err, nc.Flush())
	}
	defer c.Close()
	before, err := s.received()
	if err != nil {
		return o, err
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() { failed = beside(&stop) })
	w := &work{}
	o.figures, err = s.rate(w, func() error {
		end := time.Now().Add(span)
		out := bufio.NewWriterSize(c, 64<<10)
		for w.sent%checkEvery != 0 || time.Now().Before(end) {
			if _, err := out.Write(commands[pick(w.sent)]); err != nil {
				return err
			}
			w.sent++
		}
		return errors.Join(out.Flush(), pong(c))
	})
	stop.Store(true)
	wg.Wait()
	if err := errors.Join(err, failed); err != nil {
		return o, err
	}
	after, err := s.received()
	o.note = faults(w.sent-(after-before), 0, 0)
	return o, err
}

// pong sends a PING and waits for its PONG, after which the server has handled everything before it.
func pong(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	for r := bufio.NewReader(c); ; { // skips a PING of the server
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "PONG"):
			return nil
		case strings.HasPrefix(line, "-ERR"):
			return fmt.Errorf("the server answers %q", line)
		}
	}
}

// subscriptionMemory measures the memory of a million subscriptions on ten connections.
func subscriptionMemory(s *server) (o outcome, err error) {
	const n, conns = 1_000_000, 10
	before, err := s.memory()
	if err != nil {
		return o, err
	}
	for k := range conns {
		c, err := greet(s)
		if err != nil {
			return o, err
		}
		defer c.Close()
		out := bufio.NewWriterSize(c, 32<<10)
		for i := range n / conns {
			if _, err := fmt.Fprintf(out, "SUB orders.eu.%d.paid %d\r\n", k*n/conns+i, i); err != nil {
				return o, err
			}
		}
		if err := errors.Join(out.Flush(), pong(c)); err != nil {
			return o, err
		}
	}
	after, err := s.memory()
	o.figures = figures{"B": (after - before) / n, "MB": after / megabyte}
	return o, err
}
