package bench

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	reopenBytes = 10 << 30 // what the directory holds when it is first opened again

	// Before each further time more is published. What a start reads is what came since the last checkpoint, so
	// this is what a checkpoint waits for and more, to end the broker at different times between two of them.
	moreBytes  = 256 << 20
	stepBytes  = 56 << 20
	moreStages = 5

	fillRecords = 512 // of a publish while the directory is filled: 10 GB take half a minute
)

// grown is a data directory that keeps growing: filled once, then opened again and again.
type grown struct {
	bytes int    // to fill it with
	dir   string // "" before the first round
	end   uint64 // offset behind the last record
	times int    // how often it was opened again
}

// reopen publishes more, ends the broker and returns how long the next one takes to greet a connection. It
// has everything that was acknowledged, or there is no figure.
func (g *grown) reopen(c *Config, end func(p *process) error) (float64, error) {
	more, records := min(g.bytes, moreBytes+g.times%moreStages*stepBytes), backlogRecords
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
	return with(p, err, func(p *process) (float64, error) {
		took, err := sinceGreeted(p, start)
		return took, errors.Join(err, g.check(p))
	})
}

// grow publishes so many bytes at level disk, so many records at once.
func (g *grown) grow(p *process, bytes, records int) error {
	s, err := login(p.addr, "bench")
	if err != nil {
		return err
	}
	defer s.close()
	n, err := s.fillTopic(bytes, records)
	g.end += n
	return err
}

// check publishes a record, which must be the next one.
func (g *grown) check(p *process) error {
	s, err := login(p.addr, "bench")
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.write(publishFrame(s.handle, 0, wire.LevelDisk, 100, 1)); err != nil {
		return err
	}
	f, err := s.frame()
	if err != nil {
		return err
	}
	if err := failure(f); err != nil {
		return err
	}
	var m wire.PublishReply
	if err := m.Parse(f.Body, f.Flags); err != nil {
		return err
	}
	if m.Base != g.end {
		return fmt.Errorf("the next record has offset %d: expected %d", m.Base, g.end)
	}
	g.end++
	return nil
}

// remove removes the directory.
func (g *grown) remove() error {
	dir := g.dir
	*g = grown{bytes: g.bytes}
	return os.RemoveAll(dir)
}

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
		again("reopen with 10 GB after kill -9", (*process).stop),
		again("reopen with 10 GB after a clean stop", (*process).end),
	}
}
