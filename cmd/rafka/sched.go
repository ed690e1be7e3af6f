package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

func (c *cli) schedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sched", Short: "look at messages that are published later, and cancel them",
		Args: cobra.ArbitraryArgs, RunE: onlySubcommands,
	}
	cmd.AddCommand(c.schedListCommand(), c.schedShowCommand(), c.schedCancelCommand())
	return cmd
}

// scheduleName returns the name of a scheduled message on the command line.
func scheduleName(topic string, partition int, id uint64) string {
	return fmt.Sprintf("%s/%d#%d", topic, partition, id)
}

func parseScheduleName(s string) (topic string, partition int, id uint64, err error) {
	place, number, ok := strings.Cut(s, "#")
	i := strings.LastIndexByte(place, '/')
	if ok && i > 0 {
		partition, err = strconv.Atoi(place[i+1:])
		if err == nil {
			id, err = strconv.ParseUint(number, 10, 64)
		}
		if err == nil && id > 0 && partition >= 0 {
			return place[:i], partition, id, nil
		}
	}
	return "", 0, 0, fmt.Errorf("%q is not the name of a scheduled message, such as reminders/0#12", s)
}

// schedRow is a scheduled message as JSON.
type schedRow struct {
	Name      string  `json:"name"`
	Topic     string  `json:"topic"`
	Partition int     `json:"partition"`
	ID        uint64  `json:"id"`
	Due       string  `json:"due"`
	Cron      string  `json:"cron,omitempty"`
	Zone      string  `json:"time_zone,omitempty"`
	Message   message `json:"message"`

	in    time.Duration
	key   string
	bytes int
}

func newSchedRow(s *client.Scheduled) schedRow {
	r := schedRow{
		Name: scheduleName(s.Topic, s.Partition, s.ID), Topic: s.Topic, Partition: s.Partition, ID: s.ID,
		Due: s.Due.UTC().Format(jsonTime), Cron: s.Cron, Zone: s.Zone, Message: newMessage(&s.Message),
		in: time.Until(s.Due), key: "-", bytes: len(s.Value),
	}
	r.Message.Offset = nil // it gets one when it is published
	if s.Key != nil {
		r.key = printable(s.Key)
	}
	return r
}

// dueIn returns how far in the future a time is, for a table.
func dueIn(d time.Duration) string {
	if d <= 0 {
		return "now"
	}
	return rounded(max(d, time.Second), time.Second)
}

func (c *cli) schedListCommand() *cobra.Command {
	var limit, partition int
	cmd := &cobra.Command{
		Use: "ls [TOPIC]", Aliases: []string{"list"}, Short: "list what will be published, of one topic or of all",
		Args: between(0, 1, ""), ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 || partition < -1 {
				return usagef(cmd, "no number can be negative")
			}
			return c.withClient(cmd.Context(), client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				rows, err := schedRows(cmd.Context(), cl, args, partition, limit)
				if err != nil {
					return err
				}
				return printList(c, rows, []string{"NAME", "DUE-IN", "DUE", "CRON", "KEY", "BYTES"}, func(r schedRow) []any {
					spec := r.Cron
					if spec == "" {
						spec = "-"
					}
					return []any{r.Name, dueIn(r.in), r.Due, spec, r.key, r.bytes}
				})
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "count", "n", 100, "at most this many; 0 for all")
	partitionFlag(cmd.Flags(), &partition, "only those of this partition")
	return cmd
}

// schedRows returns up to limit scheduled messages, those of the topic that names holds or of all topics. A limit of 0
// is none.
func schedRows(ctx context.Context, cl *client.Client, names []string, partition, limit int) ([]schedRow, error) {
	places, err := schedPlaces(ctx, cl, names, partition)
	if err != nil {
		return nil, err
	}
	var rows []schedRow
	found := make([][]schedRow, len(places))
	err = inOrder(ctx, len(places), func(ctx context.Context, i int) error {
		for s, err := range cl.Schedules(ctx, places[i].Topic, places[i].Partition) {
			if err != nil {
				return err
			}
			if found[i] = append(found[i], newSchedRow(s)); len(found[i]) == limit {
				break
			}
		}
		return nil
	}, func(i int, err error) error {
		rows = append(rows, found[i]...)
		found[i] = nil
		if limit > 0 && len(rows) >= limit {
			rows = rows[:limit]
			return errEnough // what failed after these is not asked for
		}
		return err
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return rows, err
}

// schedPlaces returns the partitions of which schedRows lists the messages, in the order of the list.
func schedPlaces(
	ctx context.Context, cl *client.Client, names []string, partition int,
) ([]wire.MemberPartition, error) {
	var infos []wire.TopicInfo
	var err error
	switch {
	case len(names) == 0:
		infos, err = cl.Topics(ctx)
	case partition == client.AllPartitions:
		infos = make([]wire.TopicInfo, 1)
		infos[0], err = cl.Topic(ctx, names[0])
	default:
		infos = []wire.TopicInfo{{Topic: names[0]}}
	}
	if err != nil {
		return nil, err
	}
	var places []wire.MemberPartition
	for _, t := range infos {
		if partition != client.AllPartitions {
			places = append(places, wire.MemberPartition{Topic: t.Topic, Partition: partition})
			continue
		}
		for p := range t.Partitions {
			places = append(places, wire.MemberPartition{Topic: t.Topic, Partition: p})
		}
	}
	return places, nil
}

func (c *cli) schedShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Aliases: []string{"info"}, Short: "show one message that will be published", Args: exactly(1, "NAME"),
		Example: "  rafka sched show reminders/0#12",
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, partition, id, err := parseScheduleName(args[0])
			if err != nil {
				return usagef(cmd, "%v", err)
			}
			return c.withClient(cmd.Context(), client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				s, err := cl.Schedule(cmd.Context(), topic, partition, id)
				if err != nil {
					return noSchedule(err, topic)
				}
				r := newSchedRow(s)
				pairs := [][2]string{{"name", r.Name}, {"due", r.Due}, {"due in", dueIn(r.in)}}
				if r.Cron != "" {
					pairs = append(pairs, [2]string{"cron", r.Cron}, [2]string{"time zone", r.Zone})
				}
				pairs = append(pairs, [2]string{"key", r.key}, [2]string{"value", printable(s.Value)})
				for _, h := range s.Headers {
					pairs = append(pairs, [2]string{"header", printable([]byte(h.Name)) + "=" + printable(h.Value)})
				}
				return c.printOne(r, pairs)
			})
		},
	}
}

func (c *cli) schedCancelCommand() *cobra.Command {
	var d destructive
	cmd := &cobra.Command{
		Use: "cancel NAME...", Aliases: []string{"rm"}, Short: "take messages back that would be published",
		Args: between(1, 1000, "NAME"), Example: "  rafka sched cancel reminders/0#12 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if _, _, _, err := parseScheduleName(name); err != nil {
					return usagef(cmd, "%v", err)
				}
			}
			return c.withClient(cmd.Context(), client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				return eachName(args, func(name string) error { return c.cancelSchedule(cmd, cl, &d, name) })
			})
		},
	}
	d.flags(cmd.Flags())
	return cmd
}

// schedChange is a message that was cancelled, as JSON.
type schedChange struct {
	Action    string `json:"action"`
	Name      string `json:"name"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	ID        uint64 `json:"id"`
	dryRun
}

// noSchedule adds to the error of a message that does not wait where those are listed that do.
func noSchedule(err error, topic string) error {
	if !errors.Is(err, wire.CodeOffsetOutOfRange) {
		return err
	}
	f := explain(err)
	f.hint = "rafka sched ls " + topic + " lists those that wait"
	return f
}

func (c *cli) cancelSchedule(cmd *cobra.Command, cl *client.Client, d *destructive, name string) error {
	topic, partition, id, err := parseScheduleName(name)
	if err != nil {
		return err
	}
	if _, err := cl.Schedule(cmd.Context(), topic, partition, id); err != nil {
		return noSchedule(err, topic)
	}
	change := schedChange{"cancelled", name, topic, partition, id, d.dryRun}
	ok, err := d.confirm(c, cmd, change, fmt.Sprintf("cancel %s", name))
	if err != nil || !ok {
		return err
	}
	missing, err := cl.CancelScheduled(cmd.Context(), topic, partition, id)
	if err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%s does not wait any more: it is being published, or was cancelled meanwhile", name)
	}
	return c.report(change, "cancelled %s", name)
}
