package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// moment holds the flags of rafka pub that say when a message is published.
type moment struct {
	delay time.Duration
	at    string
	cron  string
	zone  string

	due time.Time // at, parsed
}

func (m *moment) flags(fs *pflag.FlagSet) {
	durationVar(fs, &m.delay, "delay", 0, "publish the message after this time, for example 10m")
	fs.StringVar(&m.at, "at", "", "publish the message at this time, for example 2026-11-22T10:00; local time unless it has a zone")
	fs.StringVar(&m.cron, "cron", "", "publish the message repeatedly: five fields of cron, or for example @hourly or @every 90s")
	fs.StringVar(&m.zone, "tz", "", "time zone of --cron, for example Europe/Berlin; default UTC")
}

// prepare checks the flags. live means that the message goes to a subject, atomic that it is part
// of a batch.
func (m *moment) prepare(cmd *cobra.Command, live, atomic bool) error {
	given := 0
	for _, name := range []string{"delay", "at", "cron"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	var err error
	switch {
	case given > 1:
		return usagef(cmd, "--delay, --at and --cron exclude each other")
	case given > 0 && live:
		return usagef(cmd, "--live is now: --delay, --at and --cron need a topic")
	case given > 0 && atomic:
		return usagef(cmd, "--atomic is now: --delay, --at and --cron are for single messages")
	case m.zone != "" && m.cron == "":
		return usagef(cmd, "--tz is the time zone of --cron")
	case m.at != "":
		if m.due, err = parseTime(m.at); err != nil {
			return usagef(cmd, "--at: %v", err)
		}
	}
	return nil
}
