package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// plan says what to measure, and counts what failed.
type plan struct {
	programs map[string]string // paths of the programs that were found, by file name
	dir      string            // where the servers' directories are created
	rounds   int
	only     *regexp.Regexp    // matches the names of the scenarios to measure
	systems  *regexp.Regexp    // matches the ids of the systems to measure
	targets  bool              // measure only what targets need
	progress func(line string) // prints a line for the user
	failures int               // errors that progress has printed
}

// measure runs every scenario round by round over its systems, so that a disturbance of the machine
// affects all of them. It calls keep with the samples of each scenario. When a system fails, its last
// sample says so, and the others go on. When ctx ends, the samples of the current scenario are dropped.
func (p *plan) measure(ctx context.Context, keep func([]sample) error) error {
	if err := requireDisk(p.dir); err != nil {
		return err
	}
	for _, sc := range scenarios() {
		if !p.only.MatchString(sc.name) {
			continue
		}
		contenders, err := p.contenders(&sc)
		if err != nil {
			return err
		}
		if len(contenders) == 0 {
			continue
		}
		samples := p.scenario(ctx, &sc, contenders)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		if err := keep(samples); err != nil {
			return err
		}
	}
	return nil
}

// contenders returns the systems of a scenario that are to be measured and whose programs were found.
func (p *plan) contenders(sc *scenario) (list []*system, err error) {
	for _, id := range sc.systems {
		sys, err := systemNamed(id)
		if err != nil {
			return nil, err
		}
		if p.targets && !neededByTarget(sc.name, id) {
			continue
		}
		if p.systems.MatchString(id) && p.programs[sys.program] != "" && (sc.tool == "" || p.programs[sc.tool] != "") {
			list = append(list, &sys)
		}
	}
	return list, nil
}

// scenario measures the contenders of a scenario in turn, round by round, each time in a new order: what a system
// leaves behind, such as memory that is at hand, meets another one each time.
func (p *plan) scenario(ctx context.Context, sc *scenario, contenders []*system) (samples []sample) {
	staying := map[*system]*server{}
	defer func() {
		for _, s := range staying {
			p.warn(s.remove())
		}
	}()
	failed := map[*system]bool{}
	rounds := p.rounds
	if sc.maxRounds > 0 {
		rounds = min(rounds, sc.maxRounds)
	}
	for round := range rounds {
		for _, i := range rand.Perm(len(contenders)) {
			sys := contenders[i]
			if failed[sys] || ctx.Err() != nil {
				continue
			}
			got, err := p.once(sc, sys, staying)
			if err != nil {
				failed[sys] = true
				p.warn(fmt.Errorf("%s: %s: %w", sc.name, sys.name, err))
				got = sample{Scenario: sc.name, System: sys.id, Note: "failed"}
			}
			samples = append(samples, got)
			p.progress(fmt.Sprintf("%d/%d %s: %s: %s", round+1, rounds, sc.name, sys.name, got.line()))
		}
	}
	return samples
}

// once measures a system in a scenario once: on a new server, or on that of the first round if the
// scenario prepares one. It adds a prepared server to staying, and the caller removes it.
func (p *plan) once(sc *scenario, sys *system, staying map[*system]*server) (got sample, err error) {
	if sc.prepare != nil && staying[sys] == nil {
		s, err := boot(sys, p.programs, p.dir)
		if err != nil {
			return got, err
		}
		staying[sys] = s
		if err := sc.prepare(s); err != nil {
			return got, err
		}
	}
	e := errand{Scenario: sc.name, System: sys.id, Programs: p.programs, Dir: p.dir, Server: staying[sys].standing()}
	return e.send()
}

// warn reports and counts an error, unless that is nil. The measurements go on.
func (p *plan) warn(err error) {
	if err != nil {
		p.failures++
		p.progress(err.Error())
	}
}

// line returns a sample as one line of text.
func (s *sample) line() string {
	var parts []string
	for name, v := range s.Figures {
		parts = append(parts, fmt.Sprintf("%s %s", name, number(v)))
	}
	slices.Sort(parts)
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	return strings.Join(parts, ", ")
}

// findPrograms looks for the programs in dirs and then in the PATH, and returns the paths of those that it
// finds, by name. It calls missing with the name of each other one. The last of dirs that has a program
// wins.
func findPrograms(dirs []string, missing func(name string)) map[string]string {
	found := map[string]string{}
	for _, name := range []string{"rafka", "nats-server", "nsqd", "redis-server", "nats"} {
		path, err := exec.LookPath(name)
		for _, dir := range dirs {
			if built, err2 := filepath.Abs(filepath.Join(dir, name)); err2 == nil {
				if _, err2 = os.Stat(built); err2 == nil {
					path, err = built, nil
				}
			}
		}
		if err != nil {
			missing(name)
			continue
		}
		found[name] = path
	}
	return found
}
