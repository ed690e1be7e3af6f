package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take that should not take long.
const patience = 60 * time.Second

// server is a system that runs, with a directory of its own.
type server struct {
	sys      *system
	dir      string
	addr     string // of clients
	admin    string // of HTTP, with Go's profiles when the system has them
	varz     string // of the HTTP server that counts messages; "" for none
	natsTool string // the nats command
	args     []string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process has
	log      bytes.Buffer
	began    time.Time     // when the process was started
	took     time.Duration // until it greeted a connection
}

// boots is how often a server is started that ends at once: one of its ports may have been taken by another
// program in between, and not all servers can say which free ones they chose.
const boots = 3

// errEnded is what start returns when the process has ended.
var errEnded = errors.New("it has ended")

// boot starts a system with no data, in a new directory of parent.
func boot(sys *system, programs map[string]string, parent string) (s *server, err error) {
	for range boots {
		if s, err = bootOnce(sys, programs, parent); !errors.Is(err, errEnded) {
			break
		}
	}
	return s, err
}

func bootOnce(sys *system, programs map[string]string, parent string) (*server, error) {
	dir, err := os.MkdirTemp(parent, "rafka-peers-")
	if err != nil {
		return nil, err
	}
	s := &server{sys: sys, dir: dir, addr: freeAddr(), admin: freeAddr(), natsTool: programs["nats"]}
	args, err := sys.args(s)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.args = append([]string{programs[sys.program]}, args...)
	if err := s.start(); err != nil {
		removed := s.remove() // then its log is whole
		return nil, errors.Join(fmt.Errorf("%w: %s", err, s.log.String()), removed)
	}
	return s, nil
}

// start starts the process and waits until it greets a connection.
func (s *server) start() error {
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Dir, s.cmd.Stderr = s.dir, &s.log
	s.began = time.Now()
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // it was killed, or has said why it could not start
		close(ended)
	}(s.cmd, s.ended)
	err := until("greets a connection", func() (bool, error) {
		select {
		case <-s.ended:
			return false, errEnded
		default:
		}
		c, err := greet(s)
		if err == nil {
			_ = c.Close()
		}
		return err == nil, nil
	})
	s.took = time.Since(s.began)
	return err
}

// onDevice makes sure that a directory is not in memory, where flushing costs nothing.
func onDevice(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is in memory: say with --data where there is a disk", dir)
	}
	return nil
}

// greet opens a connection that has said hello and was answered.
func greet(s *server) (net.Conn, error) {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), s.sys.hello(c), c.SetDeadline(time.Time{})); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// kill ends the process at once.
func (s *server) kill() error {
	if s.ended == nil { // it did not start
		return nil
	}
	err := s.cmd.Process.Kill()
	<-s.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// remove ends the process and removes its data.
func (s *server) remove() error { return errors.Join(s.kill(), os.RemoveAll(s.dir)) }

// freeAddr returns a loopback address that nobody listens on. Another program may take it before the
// server does.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

// until waits for a condition.
func until(what string, cond func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		if ok, err := cond(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("waited too long until it %s", what)
}

// tick is the unit in which the kernel counts processor time.
const tick = 10 * time.Millisecond

// cpu returns the processor time that the server has used.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name may hold anything
	if len(fields) < 13 {
		return 0, errors.New("the kernel says less about a process than expected")
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// memory returns the bytes of the server's pages in memory.
func (s *server) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	return float64(pages * os.Getpagesize()), err
}

var mallocs = regexp.MustCompile(`(?m)^# Mallocs = (\d+)$`)

// allocations returns how often the server has allocated, ok when it can say that: Go programs do, with
// their heap profile.
func (s *server) allocations() (n float64, ok bool, err error) {
	if !s.sys.pprof {
		return 0, false, nil
	}
	resp, err := http.Get("http://" + s.admin + "/debug/pprof/heap?debug=1")
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	found := mallocs.FindSubmatch(b)
	if err != nil || found == nil {
		return 0, false, errors.Join(err, errors.New("a heap profile without its number of allocations"))
	}
	n, err = strconv.ParseFloat(string(found[1]), 64)
	return n, true, err
}

// spent adds to figures what the server uses while f runs, per million of the messages that f returns.
func (s *server) spent(f func() (messages int, err error)) (figures, error) {
	cpu, err := s.cpu()
	if err != nil {
		return nil, err
	}
	allocs, counts, err := s.allocations()
	if err != nil {
		return nil, err
	}
	n, err := f()
	if err != nil {
		return nil, err
	}
	cpuAfter, err := s.cpu()
	if err != nil {
		return nil, err
	}
	millions := float64(n) / 1e6
	used := figures{"cpu": (cpuAfter - cpu).Seconds() / millions}
	if counts {
		allocsAfter, _, err := s.allocations()
		if err != nil {
			return nil, err
		}
		used["allocs"] = (allocsAfter - allocs) / millions
	}
	return used, nil
}
