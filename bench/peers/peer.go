package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// peer is a running server.
type peer struct {
	name  string
	addr  string // of clients
	stats string // URL of a JSON object that counts subscriptions
	cmd   *exec.Cmd
}

const patience = 60 * time.Second

func startNATS(t *tools) (*peer, error) {
	p := &peer{name: "nats-server"}
	port, admin := freePort(), freePort()
	p.cmd = exec.Command(t.nats, "-a", "127.0.0.1", "-p", port, "-m", admin, "-l", os.DevNull)
	p.addr, p.stats = "127.0.0.1:"+port, "http://127.0.0.1:"+admin+"/varz"
	return p, p.start()
}

func startRafka(t *tools) (*peer, error) {
	p := &peer{name: "rafka"}
	port, admin := freePort(), freePort()
	p.cmd = exec.Command(t.rafka, "serve", "--storage", "in_memory", "--log-level", "error",
		"--listen", "127.0.0.1:"+port, "--admin", "127.0.0.1:"+admin)
	p.addr, p.stats = "127.0.0.1:"+port, "http://127.0.0.1:"+admin+"/varz"
	return p, p.start()
}

// freePort returns a port that nobody listens on. Another program may take it before the server does;
// then the server does not start and the run fails.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (p *peer) start() error {
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return until("listens", func() (bool, error) {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil, nil
	})
}

func (p *peer) stop() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // killed
	return err
}

// until waits for a condition.
func until(what string, cond func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok, err := cond(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("waited too long until it %s", what)
}

// subscribed waits until the server has n subscriptions more than before.
func (p *peer) subscribed(before, n int) error {
	return until("has the subscriptions", func() (bool, error) {
		now, err := p.subscriptions()
		return now-before >= n, err
	})
}

func (p *peer) subscriptions() (int, error) {
	resp, err := http.Get(p.stats)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		Subscriptions int `json:"subscriptions"`
	}
	return stats.Subscriptions, json.NewDecoder(resp.Body).Decode(&stats)
}

// cpu returns the processor time the server has used.
func (p *peer) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("the kernel says less about a process than expected")
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}

// memory returns the bytes of the server's pages in memory.
func (p *peer) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	return float64(pages * os.Getpagesize()), err
}

// spent measures f, which has the server handle n messages.
func (p *peer) spent(n int, f func() (float64, error)) (s sample, err error) {
	before, err := p.cpu()
	if err != nil {
		return s, err
	}
	if s.value, err = f(); err != nil {
		return s, err
	}
	after, err := p.cpu()
	s.cpu = float64((after - before).Microseconds()) / float64(n)
	return s, err
}
