package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
)

// The states of a monitoring plugin. They are also the exit codes of rafka check, the only command that
// does not use the exit codes of the others.
const (
	stateOK = iota
	stateWarning
	stateCritical
	stateUnknown
)

var stateNames = [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

// verdict is the outcome of rafka check.
type verdict struct {
	State   string             `json:"state"`
	Message string             `json:"message"`
	Values  map[string]float64 `json:"values"`

	code int
	perf []string // values in the notation of monitoring plugins
}

// raise raises the state to at least state.
func (v *verdict) raise(state int) {
	v.code = max(v.code, state)
	v.State = stateNames[v.code]
}

// measure adds a value, and raises the state when the value reaches a limit; a limit of 0 is
// ignored.
func (v *verdict) measure(name, unit string, value, warn, crit float64) {
	v.Values[name] = value
	v.perf = append(v.perf, fmt.Sprintf("%s=%g%s;%s;%s", name, value, unit, limitText(warn), limitText(crit)))
	switch {
	case crit > 0 && value >= crit:
		v.raise(stateCritical)
	case warn > 0 && value >= warn:
		v.raise(stateWarning)
	}
}

func limitText(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%g", v)
}

// limits is the flags of rafka check.
type limits struct {
	group            string
	rttWarn, rttCrit time.Duration
	lagWarn, lagCrit uint64
	ageWarn, ageCrit time.Duration
}

const checkHelp = `Check a broker the way monitoring plugins do: print one line, and exit with 0 for OK, 1 for WARNING,
2 for CRITICAL or 3 for UNKNOWN. Without limits it checks that the broker answers and that every
partition accepts writes.`

func (c *cli) checkCommand() *cobra.Command {
	var l limits
	cmd := &cobra.Command{
		Use: "check", Short: "check a broker, for monitoring: one line and a state", Long: checkHelp, Args: exactly(0, ""),
		Example: "  rafka check --rtt-crit 1s\n  rafka check --group mailer --lag-warn 1000 --lag-crit 10000 --age-crit 5m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if l.group == "" && (l.lagWarn+l.lagCrit > 0 || l.ageWarn+l.ageCrit > 0) {
				return usagef(cmd, "the limits of lag and age need --group")
			}
			v := &verdict{Values: make(map[string]float64)}
			v.raise(stateOK)
			err := c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return v.look(cmd.Context(), cl, &l)
			})
			if err != nil {
				v.raise(stateCritical)
				v.Message = err.Error()
			}
			return c.printVerdict(v)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&l.group, "group", "", "also check this group or queue")
	durationVar(fs, &l.rttWarn, "rtt-warn", 0, "warn when an answer takes this long")
	durationVar(fs, &l.rttCrit, "rtt-crit", 0, "critical when an answer takes this long")
	fs.Uint64Var(&l.lagWarn, "lag-warn", 0, "warn when this many messages are not done")
	fs.Uint64Var(&l.lagCrit, "lag-crit", 0, "critical when this many messages are not done")
	durationVar(fs, &l.ageWarn, "age-warn", 0, "warn when the oldest message not done is this old")
	durationVar(fs, &l.ageCrit, "age-crit", 0, "critical when the oldest message not done is this old")
	return cmd
}

// look checks the broker and fills v.
func (v *verdict) look(ctx context.Context, cl *client.Client, l *limits) error {
	rtt, err := cl.Ping(ctx)
	if err != nil {
		return err
	}
	v.measure("rtt", "s", rtt.Seconds(), l.rttWarn.Seconds(), l.rttCrit.Seconds())
	v.Message = fmt.Sprintf("answer in %s", rtt.Round(time.Microsecond))
	infos, err := cl.Topics(ctx)
	if err != nil {
		return err
	}
	for _, t := range infos {
		if row := newTopicRow(t); row.status() != "ok" {
			v.raise(stateCritical)
			v.Message += fmt.Sprintf(", topic %s is %s", row.Topic, row.status())
		}
	}
	if l.group == "" {
		return nil
	}
	groups, err := groupInfos(ctx, cl, l.group)
	if err != nil {
		return err
	}
	for _, g := range sumGroups(groups, nil) {
		name := g.Topic
		if _, ok := v.Values["lag_"+name]; ok { // a group and a queue have the same name
			name = g.Mode + "_" + name
		}
		v.measure("lag_"+name, "", float64(g.Lag), float64(l.lagWarn), float64(l.lagCrit))
		v.measure("age_"+name, "s", g.LagSeconds, l.ageWarn.Seconds(), l.ageCrit.Seconds())
		v.Message += fmt.Sprintf(", %s %s on %s is %s and %s behind", g.Mode, g.Group, g.Topic, plural(g.Lag, "message"), seconds(g.LagSeconds))
	}
	return nil
}

// printVerdict prints the line, and returns the failure that sets the exit code.
func (c *cli) printVerdict(v *verdict) error {
	var err error
	if c.asJSON() {
		err = c.printJSON(v)
	} else {
		line := fmt.Sprintf("RAFKA %s - %s", v.State, v.Message)
		if len(v.perf) > 0 {
			line += " | " + strings.Join(v.perf, " ")
		}
		_, err = fmt.Fprintln(c.stdout, harmless(line))
	}
	if err != nil || v.code == stateOK {
		return err
	}
	return &failure{exit: v.code} // no error to report, the line is the report
}
