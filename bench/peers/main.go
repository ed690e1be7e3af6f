// Command peers measures Rafka beside other message systems: each as a process of its own on this
// machine, driven through its own best Go client, in turn, round by round. It prints tables of medians
// and ratios, and draws them. It needs Linux.
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
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/bench/plot"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	plan      plan
	dirs      string
	from      string
	file      string
	documents string
	plots     string
}

func parseOptions() (o options, err error) {
	flag.StringVar(&o.dirs, "bin", "bin:bin/tools", "where rafka, nats-server, nsqd and nats are, unless they are in the PATH")
	flag.StringVar(&o.plan.dir, "data", os.TempDir(), "where servers have their directories; not in memory")
	flag.IntVar(&o.plan.rounds, "rounds", 5, "measurements of each, in turn")
	only := flag.String("only", "", "a regular expression for the names of the scenarios to measure")
	which := flag.String("systems", "", "a regular expression for the systems to measure")
	flag.BoolVar(&o.plan.targets, "targets", false, "measure only what targets need")
	flag.StringVar(&o.from, "from", "", "print what is in this file of samples instead of measuring")
	flag.StringVar(&o.file, "json", "", "a file for the samples; what it has of other scenarios and systems stays")
	flag.StringVar(&o.documents, "write", "", "a document to write the tables into")
	flag.StringVar(&o.plots, "plots", "", "a directory for the plots")
	flag.Parse()
	var err2 error
	o.plan.only, err = regexp.Compile(*only)
	o.plan.systems, err2 = regexp.Compile(*which)
	if o.plan.rounds < 1 {
		err = errors.Join(err, errors.New("a round at least"))
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
	if o.documents != "" {
		if err := r.write(o.documents); err != nil {
			return err
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

// measure returns what is measured now together with what the file of samples has.
func (o *options) measure() (r results, err error) {
	if o.file != "" {
		if r, err = load(o.file); err != nil {
			return r, err
		}
	}
	o.plan.progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
	o.plan.programs = findPrograms(filepath.SplitList(o.dirs), func(name string) { o.plan.progress(name + " is not here: left out") })
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
