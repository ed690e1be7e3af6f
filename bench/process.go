package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server under test: a broker or a floor, as a child process.
type process struct {
	cmd   *exec.Cmd
	addr  string // host and port that clients connect to
	admin string // host and port of a broker's admin endpoint; "" when it is off
	dir   string // the directory that kill removes; "" for none
}

// startLimit is how long a broker may take until it listens.
const startLimit = 30 * time.Second

// startFloor starts the program as a floor; see Floor for kind and size.
func startFloor(c *Config, kind string, size int) (*process, error) {
	cmd := exec.Command(c.Program, "bench", "floor", kind, strconv.Itoa(size))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("floor %s did not start: %w", kind, err), p.kill())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// startBroker starts the program as a broker with its data in dir, or in memory when dir is "". args
// are added to its command line. The admin endpoint is off unless args turn it on.
func startBroker(c *Config, dir string, args ...string) (*process, error) {
	ports, err := os.MkdirTemp("", "rafka-bench-ports")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(ports)
	portFile := filepath.Join(ports, "port")
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "off", "--port-file", portFile, "--log-level", "error"}, args...)
	if dir == "" {
		args = append(args, "--storage", "in_memory")
	} else {
		args = append(args, "--data", dir)
	}
	cmd := exec.Command(c.Program, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(portFile); err == nil && len(b) > 0 {
			p.addr, p.admin, _ = strings.Cut(strings.TrimSpace(string(b)), "\n")
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("the broker did not listen within %v", startLimit), p.kill())
}

// startDiskBroker starts a broker on a new directory, which the process's kill removes.
func startDiskBroker(c *Config, args ...string) (*process, error) {
	dir, err := os.MkdirTemp(c.Dir, "rafka-bench")
	if err != nil {
		return nil, err
	}
	p, err := startBroker(c, dir, args...)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.dir = dir
	return p, nil
}

// terminate sends SIGTERM and waits until the process has ended. Its directory stays.
func (p *process) terminate() error {
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// kill kills the process, waits until it has ended, and removes its directory, unless dir is "".
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // only reports that it was killed
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

// residentBytes returns the resident memory of the process in bytes; 0 on systems without /proc.
func (p *process) residentBytes() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}
