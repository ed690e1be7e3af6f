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

// process is a server under test in a process of its own.
type process struct {
	cmd   *exec.Cmd
	addr  string
	admin string // of a broker; "" when it has none
	dir   string // removed with it; "" when it has none
}

// startLimit is how long a server may take to listen.
const startLimit = 30 * time.Second

// startFloor starts the program as a floor.
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
		return nil, errors.Join(fmt.Errorf("floor %s did not start: %w", kind, err), p.stop())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// startBroker starts the program as a broker. A dir of "" keeps data in memory.
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
	return nil, errors.Join(errors.New("the broker did not start"), p.stop())
}

// startDiskBroker starts a broker on a fresh directory.
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

// end asks the process to stop and waits until it has. Its data stays.
func (p *process) end() error {
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// stop kills the process and removes its data.
func (p *process) stop() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

// residentBytes returns the memory of the process that is in RAM, 0 where the system does not say.
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
