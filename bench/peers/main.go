// Command peers compares Rafka with other message systems. It runs each of them as a process on this
// machine, drives it through the fastest Go client that it has, and measures the systems in turn, round
// by round. It prints tables of medians and ratios, and can draw charts. It needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/bench/plot"
)

func main() {
	drive()
	live()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// options are the options of the command line.
type options struct {
	plan  plan
	dirs  string // to search for programs, separated by colons
	from  string // file of samples to report instead of measuring; "" to measure
	file  string // file to read samples from and save them to; "" for none
	write string // documents to write the report into, separated by commas; "" for none
	plots string // directory to draw the charts into; "" for none
}

func parseOptions() (o options, err error) {
	flag.StringVar(&o.dirs, "bin", "bin:bin/tools", "directories to search for rafka, nats-server, nsqd, redis-server and nats before the PATH, separated by colons")
	flag.StringVar(&o.plan.dir, "data", os.TempDir(), "directory on a disk, not in memory, in which the servers' data directories are created")
	flag.IntVar(&o.plan.rounds, "rounds", 5, "how often each system is measured in each scenario, at least 1")
	only := flag.String("only", "", "measure only the scenarios whose names match this regular expression")
	which := flag.String("systems", "", "measure only the systems whose ids match this regular expression, such as 'redis|rafka'")
	flag.BoolVar(&o.plan.targets, "targets", false, "measure only the scenarios and systems that have targets")
	flag.StringVar(&o.from, "from", "", "report the samples in this file instead of measuring")
	flag.StringVar(&o.file, "json", "", "save the samples to this file; samples of other scenarios and systems in it stay")
	flag.StringVar(&o.write, "write", "", "write the tables into these documents, separated by commas, between their 'bench peers' marks")
	flag.StringVar(&o.plots, "plots", "", "draw the charts into this directory")
	flag.Parse()
	var err2 error
	o.plan.only, err = regexp.Compile(*only)
	o.plan.systems, err2 = regexp.Compile(*which)
	if o.plan.rounds < 1 {
		err = errors.Join(err, errors.New("--rounds must be at least 1"))
	}
	return o, errors.Join(err, err2)
}

func run() error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	var r results
	if o.from != "" {
		r, err = load(o.from)
	} else {
		r, err = o.measure()
	}
	if err != nil {
		return err
	}
	fmt.Print(r.report())
	if o.write != "" {
		for _, document := range strings.Split(o.write, ",") {
			if err := r.write(document); err != nil {
				return err
			}
		}
	}
	if o.plots != "" {
		if err := r.plot(o.plots); err != nil {
			return err
		}
	}
	if n := o.plan.failures; n > 0 {
		return fmt.Errorf("%d measurements failed", n)
	}
	return nil
}

// measure measures, and returns the samples together with those of the file. It saves the file after
// each scenario.
func (o *options) measure() (r results, err error) {
	if o.file != "" {
		if r, err = load(o.file); err != nil {
			return r, err
		}
	}
	o.plan.progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
	o.plan.programs = findPrograms(filepath.SplitList(o.dirs), func(name string) { o.plan.progress(name + " was not found: what needs it is left out") })
	now := plot.Machine() + ", " + time.Now().Format(time.DateOnly)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = o.plan.measure(ctx, func(samples []sample) error {
		r.merge(results{Machine: now, Samples: samples})
		if o.file == "" {
			return nil
		}
		return r.save(o.file)
	})
	return r, err
}
