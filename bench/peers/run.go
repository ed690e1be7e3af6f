package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// plan is what is to be measured.
type plan struct {
	programs map[string]string // paths, by file name
	dir      string            // of the servers' directories
	rounds   int
	only     *regexp.Regexp // names of scenarios
	systems  *regexp.Regexp // ids of systems
	targets  bool           // only what targets need
	progress func(line string)
	failures int
}

// measure runs every scenario round by round over its systems, so that what disturbs the machine for a
// while disturbs all of them. It hands out the samples of each scenario. A system that fails has that
// noted in its row, and the rest goes on. When ctx ends, what was measured of a scenario is dropped.
func (p *plan) measure(ctx context.Context, keep func([]sample) error) error {
	if err := onDevice(p.dir); err != nil {
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

// contenders are the systems of a scenario that are wanted and whose program is there.
func (p *plan) contenders(sc *scenario) (list []*system, err error) {
	for _, id := range sc.systems {
		sys, err := systemNamed(id)
		if err != nil {
			return nil, err
		}
		if p.targets && !wanted(sc.name, id) {
			continue
		}
		if p.systems.MatchString(id) && p.programs[sys.program] != "" && (sc.tool == "" || p.programs[sc.tool] != "") {
			list = append(list, &sys)
		}
	}
	return list, nil
}

func (p *plan) scenario(ctx context.Context, sc *scenario, contenders []*system) (samples []sample) {
	staying := map[*system]*server{}
	defer func() {
		for _, s := range staying {
			p.warn(s.remove())
		}
	}()
	failed := map[*system]bool{}
	rounds := p.rounds
	if sc.most > 0 {
		rounds = min(rounds, sc.most)
	}
	for round := range rounds {
		for _, sys := range contenders {
			if failed[sys] || ctx.Err() != nil {
				continue
			}
			o, err := p.once(sc, sys, staying)
			if err != nil {
				failed[sys] = true
				p.warn(fmt.Errorf("%s: %s: %w", sc.name, sys.name, err))
				o = outcome{note: "failed"}
			}
			got := sample{Scenario: sc.name, System: sys.id, Figures: o.figures, Note: o.note}
			samples = append(samples, got)
			p.progress(fmt.Sprintf("%d/%d %s: %s: %s", round+1, rounds, sc.name, sys.name, got.line()))
		}
	}
	return samples
}

// once measures a system in a scenario, on a fresh server or the one that stays.
func (p *plan) once(sc *scenario, sys *system, staying map[*system]*server) (o outcome, err error) {
	s := staying[sys]
	if s == nil {
		if s, err = boot(sys, p.programs, p.dir); err != nil {
			return o, err
		}
	}
	switch {
	case sc.prepare == nil:
		defer func() { err = errors.Join(err, s.remove()) }()
	case staying[sys] == nil:
		staying[sys] = s
		if err := sc.prepare(s); err != nil {
			return o, err
		}
	}
	return sc.run(s)
}

// warn reports an error that does not end the measurements.
func (p *plan) warn(err error) {
	if err != nil {
		p.failures++
		p.progress(err.Error())
	}
}

// line is a sample in one line.
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

// findPrograms looks for the servers in directories, and in the PATH. One that is missing is reported
// and left out.
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
