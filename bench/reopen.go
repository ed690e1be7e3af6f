package bench

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	reopenBytes = 10 << 30 // size of the backlog when the directory is reopened for the first time

	// Before each further reopening, moreBytes + k*stepBytes are published, where k cycles through
	// [0, moreStages). A start reads what was written since the last checkpoint. moreBytes is enough for
	// a checkpoint, and the steps make the broker end at different distances from it.
	moreBytes  = 256 << 20
	stepBytes  = 56 << 20
	moreStages = 5

	// fillRecords is how many records a publish frame holds while the directory is filled. Filling 10 GB
	// takes half a minute with it.
	fillRecords = 512
)

// grown is a data directory that is filled once, then grows and is reopened again and again.
type grown struct {
	bytes int64  // size of the first fill
	dir   string // "" before the first round
	end   uint64 // offset after the last acknowledged record
	times int    // how often it was reopened
}

// reopen publishes more, ends the broker with end, and returns how many milliseconds the next broker
// takes from its start until it greets a connection. It fails when a record that was acknowledged is
// missing.
func (g *grown) reopen(c *Config, end func(p *process) error) (float64, error) {
	more, records := min(g.bytes, int64(moreBytes+g.times%moreStages*stepBytes)), backlogRecords
	if g.dir == "" {
		dir, err := os.MkdirTemp(c.Dir, "rafka-bench")
		if err != nil {
			return 0, err
		}
		g.dir, more, records = dir, g.bytes, fillRecords
	}
	g.times++
	p, err := startBroker(c, g.dir)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(g.grow(p, more, records), end(p)); err != nil {
		return 0, err
	}
	start := time.Now()
	p, err = startBroker(c, g.dir)
	return withProcess(p, err, func(p *process) (float64, error) {
		took, err := greetedAfter(p, start)
		return took, errors.Join(err, g.check(p))
	})
}

// grow publishes the given number of bytes at level disk, in frames of the given number of records.
func (g *grown) grow(p *process, bytes int64, records int) error {
	s, err := login(p.addr, "bench")
	if err != nil {
		return err
	}
	defer s.close()
	n, err := s.fillTopic(bytes, records)
	g.end += n
	return err
}

// check publishes a record, and fails unless its offset shows that all acknowledged records are there.
func (g *grown) check(p *process) error {
	s, err := login(p.addr, "bench")
	if err != nil {
		return err
	}
	defer s.close()
	f, err := s.ask(publishFrame(s.handle, 0, wire.LevelDisk, 100, 1))
	if err != nil {
		return err
	}
	var m wire.PublishReply
	if err := m.Parse(f.Body, f.Flags); err != nil {
		return err
	}
	if m.Base != g.end {
		return fmt.Errorf("after reopening, the next record has offset %d: expected %d", m.Base, g.end)
	}
	g.end++
	return nil
}

// remove removes the directory. The next reopen begins with a new one.
func (g *grown) remove() error {
	dir := g.dir
	*g = grown{bytes: g.bytes}
	return os.RemoveAll(dir)
}

// reopenScenarios reopen one directory of 10 GB, which they share.
func reopenScenarios() []scenario {
	g := &grown{bytes: reopenBytes}
	again := func(name string, end func(p *process) error) scenario {
		return scenario{
			Name: name, Unit: "ms", Target: "<= 1000 ms", Goal: 1000, Less: true, Full: true,
			ours:   func(c *Config) (float64, error) { return g.reopen(c, end) },
			finish: g.remove,
		}
	}
	return []scenario{
		again("reopen with 10 GB after kill -9", (*process).kill),
		again("reopen with 10 GB after a clean stop", (*process).terminate),
	}
}
