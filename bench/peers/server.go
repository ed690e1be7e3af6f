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

// patience is the time limit of everything that normally takes far less.
const patience = 60 * time.Second

// server is a running system, with a directory of its own.
type server struct {
	sys      *system
	dir      string
	addr     string   // host and port for clients
	admin    string   // host and port for HTTP, with Go's profiles if the system has them
	varz     string   // host and port of the HTTP server with the message counters; "" for none
	natsTool string   // path of the nats command; "" when it was not found
	args     []string // the command line
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process has ended; nil before the first start
	log      bytes.Buffer  // its standard error; may be read when the process has ended
	began    time.Time     // when the process was started last
	took     time.Duration // from began until it greeted a connection
}

// boots is how often a server that ends at once is started. Another program may have taken one of its
// ports, which are chosen beforehand because not all servers can report a port that they chose.
const boots = 3

// errEnded is the error of start when the process has ended before it greeted a connection.
var errEnded = errors.New("the server has ended instead of starting")

// boot starts a system without data, in a new directory below parent. The caller removes it.
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
		removed := s.remove() // the log is complete after that
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
	err := waitUntil("the server greeted a connection", func() (bool, error) {
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

// requireDisk fails if a directory is in memory, where a sync costs nothing.
func requireDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is in memory: choose a directory on a disk with --data", dir)
	}
	return nil
}

// greet opens a bare connection and does the handshake.
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

// kill kills the process, if it runs, and waits until it has ended.
func (s *server) kill() error {
	if s.ended == nil { // it was never started
		return nil
	}
	err := s.cmd.Process.Kill()
	<-s.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// remove kills the process and removes its directory.
func (s *server) remove() error { return errors.Join(s.kill(), os.RemoveAll(s.dir)) }

// freeAddr returns a loopback address with a free port. Another program may take the port before the
// server does.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

// waitUntil calls cond until it returns true or an error, for at most patience. what describes the
// condition in the error, as in "it took longer than 1m0s until the server greeted a connection".
func waitUntil(what string, cond func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		if ok, err := cond(); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("it took longer than %v until %s", patience, what)
}

// tick is the unit of the processor times in /proc.
const tick = 10 * time.Millisecond

// cpu returns the processor time that the server has used.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the program's name, in parentheses, may contain spaces
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has fewer fields than expected")
	}
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// memory returns the resident memory of the server in bytes.
func (s *server) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	return float64(pages * os.Getpagesize()), err
}

var mallocs = regexp.MustCompile(`(?m)^# Mallocs = (\d+)$`)

// allocations returns how many allocations the server has made so far, from the heap profile of a Go
// program. ok is false if the system has no profiles.
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
		return 0, false, errors.Join(err, errors.New("the heap profile has no number of allocations"))
	}
	n, err = strconv.ParseFloat(string(found[1]), 64)
	return n, true, err
}

// usage runs f and returns what the server used meanwhile, per million of the messages that f returns:
// "cpu" in seconds and, if the system can count them, "allocs".
func (s *server) usage(f func() (messages int, err error)) (figures, error) {
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
