package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
)

// Each measurement is an errand, for which a driver starts as a process of its own. In one that stays, a client
// meets what the clients before it left to the garbage collector: the p99 of NATS core in an open loop was twice
// as high then.

// errandCommand is the only argument of a driver. It reads its errand from its standard input as JSON, and writes
// the sample to its standard output.
const errandCommand = "errand"

// errand is one measurement of one system.
type errand struct {
	Scenario string            `json:"scenario"`
	System   string            `json:"system"`
	Programs map[string]string `json:"programs"` // as in plan
	Dir      string            `json:"dir"`      // as in plan
	Server   *standing         `json:"server"`   // nil for one of its own
}

// standing is a server of another process, which is filled already and stays.
type standing struct {
	Dir   string `json:"dir"`
	Addr  string `json:"addr"`
	Admin string `json:"admin"`
	Varz  string `json:"varz"`
	PID   int    `json:"pid"`
}

// standing describes a server for an errand. s may be nil.
func (s *server) standing() *standing {
	if s == nil {
		return nil
	}
	return &standing{Dir: s.dir, Addr: s.addr, Admin: s.admin, Varz: s.varz, PID: s.cmd.Process.Pid}
}

// attach returns the server that o describes. It cannot be started, killed or removed.
func (o *standing) attach(sys *system) (*server, error) {
	process, err := os.FindProcess(o.PID)
	s := &server{sys: sys, dir: o.Dir, addr: o.Addr, admin: o.Admin, varz: o.Varz, cmd: &exec.Cmd{Process: process}}
	return s, err
}

// send starts a driver for the errand and returns its sample. An interrupt from the terminal does not reach the
// driver, so it ends its server in any case.
func (e *errand) send() (got sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return got, err
	}
	in, err := json.Marshal(e)
	if err != nil {
		return got, err
	}
	cmd := exec.Command(self, errandCommand)
	cmd.Stdin = bytes.NewReader(in)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && len(failed.Stderr) > 0 {
		return got, errors.New(string(bytes.TrimSpace(failed.Stderr)))
	}
	if err != nil {
		return got, fmt.Errorf("run the driver: %w", err)
	}
	return got, json.Unmarshal(out, &got)
}

// drive ends the process after its errand if it was started as a driver.
func drive() {
	if len(os.Args) != 2 || os.Args[1] != errandCommand {
		return
	}
	if err := runErrand(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runErrand is all that a driver does.
func runErrand(in io.Reader, out io.Writer) error {
	var e errand
	if err := json.NewDecoder(in).Decode(&e); err != nil {
		return fmt.Errorf("read the errand: %w", err)
	}
	o, err := e.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(sample{Scenario: e.Scenario, System: e.System, Figures: o.figures, Note: o.note})
}

// run measures.
func (e *errand) run() (o outcome, err error) {
	sys, err := systemNamed(e.System)
	if err != nil {
		return o, err
	}
	all := scenarios()
	i := slices.IndexFunc(all, func(sc scenario) bool { return sc.name == e.Scenario })
	if i < 0 {
		return o, fmt.Errorf("no scenario has the name %q", e.Scenario)
	}
	var s *server
	if e.Server != nil {
		s, err = e.Server.attach(&sys)
	} else if s, err = boot(&sys, e.Programs, e.Dir); err == nil {
		defer func() { err = errors.Join(err, s.remove()) }()
	}
	if err != nil {
		return o, err
	}
	return all[i].run(s)
}
