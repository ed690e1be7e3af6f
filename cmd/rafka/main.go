// Command rafka is the broker and everything a person does with one: publish, read, look at topics
// and groups, measure, and check files. This folder is the only place that knows flags, signals and
// exit codes; what it does is done by the packages it calls.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // time zones for recurring messages, on machines that have none installed
)

func main() {
	c := newCLI(os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	ctx, stop := untilSignal()
	code := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. The second one ends the
// process at once with code 1, without an orderly stop.
func untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
	}
}
