package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// connect returns n connections.
func connect(p *peer, n int) (conns []*nats.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, nc := range conns {
			nc.Close()
		}
	}
	for range n {
		nc, err := nats.Connect("nats://" + p.addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, nc)
	}
	return conns, closeAll, nil
}

// roundTrip measures requests that are answered at once, one after the other.
func roundTrip(quantile float64) func(t *tools, p *peer) (sample, error) {
	const warm, n = 2000, 20_000
	return func(_ *tools, p *peer) (s sample, err error) {
		conns, closeAll, err := connect(p, 2)
		if err != nil {
			return s, err
		}
		defer closeAll()
		if _, err := conns[0].Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
			return s, err
		}
		if err := conns[0].Flush(); err != nil {
			return s, err
		}
		payload, took := make([]byte, 64), make([]float64, 0, n)
		request := func() error {
			start := time.Now()
			_, err := conns[1].Request("echo", payload, patience)
			took = append(took, float64(time.Since(start).Nanoseconds())/1e3)
			return err
		}
		for range warm {
			if err := request(); err != nil {
				return s, err
			}
		}
		took = took[:0]
		return p.spent(n, func() (float64, error) {
			for range n {
				if err := request(); err != nil {
					return 0, err
				}
			}
			slices.Sort(took)
			return took[int(quantile*float64(len(took)))], nil
		})
	}
}

// others is how many subscriptions there are that nothing is published to: without any, a server needs
// not look.
const others = 1000

// publish measures how fast a server takes what one connection publishes to the subjects that pick
// chooses, while beside runs. The connection writes commands that are ready: a client that does more
// for a message than the server hides it.
func publish(p *peer, n int, commands [][]byte, pick func(i int) int, beside func(stop *atomic.Bool) error) (s sample, err error) {
	conns, closeAll, err := connect(p, 1)
	if err != nil {
		return s, err
	}
	defer closeAll()
	for i := range others {
		if _, err := conns[0].SubscribeSync(fmt.Sprintf("orders.%d.other", i)); err != nil {
			return s, err
		}
	}
	if err := conns[0].Flush(); err != nil {
		return s, err
	}
	publisher, err := dialRaw(p)
	if err != nil {
		return s, err
	}
	defer publisher.conn.Close()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() { failed = beside(&stop) })
	s, err = p.spent(n, func() (float64, error) {
		start := time.Now()
		w := bufio.NewWriterSize(publisher.conn, 64<<10)
		for i := range n {
			if _, err := w.Write(commands[pick(i)]); err != nil {
				return 0, err
			}
		}
		if err := errors.Join(w.Flush(), publisher.ping()); err != nil {
			return 0, err
		}
		return float64(n) / time.Since(start).Seconds(), nil
	})
	stop.Store(true)
	wg.Wait()
	return s, errors.Join(err, failed)
}

// publishes returns n commands with subjects of their own and 128 bytes each.
func publishes(n int) [][]byte {
	commands, payload := make([][]byte, n), strings.Repeat("x", 128)
	for i := range commands {
		commands[i] = fmt.Appendf(nil, "PUB orders.eu-%d.paid 128\r\n%s\r\n", i, payload)
	}
	return commands
}

// newSubjects publishes to 10,000 subjects, of which each moment some are replaced by new ones: all of
// them within a second.
func newSubjects(_ *tools, p *peer) (sample, error) {
	const alive, n = 10_000, 6_000_000
	commands := publishes(20 * alive)
	start, first := time.Now(), 0
	return publish(p, n, commands, func(i int) int {
		if i%256 == 0 {
			first = min(int(time.Since(start).Seconds()*alive), len(commands)-alive)
		}
		return first + rand.IntN(alive)
	}, func(*atomic.Bool) error { return nil })
}

// churn publishes to 1,000 subjects while another connection subscribes and unsubscribes 10,000 times a
// second.
func churn(_ *tools, p *peer) (sample, error) {
	const alive, n, perSecond = 1000, 6_000_000, 10_000
	return publish(p, n, publishes(alive), func(int) int { return rand.IntN(alive) }, func(stop *atomic.Bool) error {
		c, err := dialRaw(p)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		start := time.Now()
		for i := 0; !stop.Load(); {
			var lines []byte
			for due := int(time.Since(start).Seconds() * perSecond); i < due; i++ {
				lines = fmt.Appendf(lines, "SUB inbox.%d %d\r\nUNSUB %d\r\n", i, i, i)
			}
			if _, err := c.conn.Write(lines); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}
