package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// destructive holds the flags of every command that removes something.
type destructive struct {
	yes bool
	dryRun
}

// dryRun is part of what a command prints as JSON: nothing was done of it if DryRun is set.
type dryRun struct {
	DryRun bool `json:"dry_run,omitempty"`
}

func (d *destructive) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&d.yes, "yes", "y", false, "do not ask for a confirmation")
	fs.BoolVar(&d.DryRun, "dry-run", false, "only show what would be done")
}

// confirm reports whether to go on with what. It asks on a terminal; elsewhere --yes is required. A dry run reports
// change with JSON output, unless it is nil because the command has printed what it would do.
func (d *destructive) confirm(c *cli, cmd *cobra.Command, change any, what string) (bool, error) {
	switch {
	case d.DryRun && change != nil:
		return false, c.report(change, "would %s", what)
	case d.DryRun:
		c.sayf("would %s", what)
		return false, nil
	case d.yes:
		return true, nil
	case !c.inTTY || !c.errTTY:
		return false, &failure{
			exit: exitUsage, name: "NOT_CONFIRMED", err: fmt.Errorf("nobody is here to confirm: %s", what),
			hint: cmd.CommandPath() + " --yes does it without asking; --dry-run only shows what would be done",
		}
	}
	fmt.Fprintf(c.stderr, "%s? [y/N] ", harmless(what))
	answer, err := untilDone(cmd.Context(), func() (string, error) { return bufio.NewReader(c.stdin).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) { // Ctrl-D is a no
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	c.sayf("nothing was done")
	return false, nil
}
