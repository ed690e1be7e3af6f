package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// groupRow is a group or queue on one topic, its partitions together.
type groupRow struct {
	Group      string  `json:"group"`
	Mode       string  `json:"mode"`
	Topic      string  `json:"topic"`
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	InFlight   int     `json:"in_flight"`
	Retrying   int     `json:"retrying"`
	Parked     int     `json:"parked"`
	Dead       int     `json:"dead"`
	Partitions int     `json:"partitions"`
}

// sumGroups adds up the partitions of each group and topic, in the order of their first appearance.
func sumGroups(infos []wire.GroupInfo) []groupRow {
	var rows []groupRow
	at := make(map[[3]string]int)
	for _, g := range infos {
		k := [3]string{g.Group, g.Mode, g.Topic}
		i, ok := at[k]
		if !ok {
			i = len(rows)
			at[k] = i
			rows = append(rows, groupRow{Group: g.Group, Mode: g.Mode, Topic: g.Topic})
		}
		r := &rows[i]
		r.Lag += g.Lag
		r.LagSeconds = max(r.LagSeconds, g.LagSeconds)
		r.InFlight += g.InFlight
		r.Retrying += g.Retrying
		r.Parked += g.Parked
		r.Dead += g.Dead
		r.Partitions++
	}
	return rows
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func (c *cli) groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Short: "look at and remove groups and queues",
		Args: cobra.ArbitraryArgs, RunE: onlySubcommands,
	}
	cmd.AddCommand(c.groupListCommand(), c.groupInfoCommand(), c.groupRemoveCommand())
	return cmd
}

func (c *cli) groupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list", "lag"}, Short: "list groups and queues with their lag", Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, err := cl.Groups(cmd.Context(), "")
				if err != nil {
					return err
				}
				return printList(c, sumGroups(infos), []string{"GROUP", "MODE", "TOPIC", "LAG", "LAG-TIME", "IN-FLIGHT", "RETRYING", "PARKED", "DEAD"},
					func(g groupRow) []any {
						return []any{g.Group, g.Mode, g.Topic, g.Lag, seconds(g.LagSeconds), g.InFlight, g.Retrying, g.Parked, g.Dead}
					})
			})
		},
	}
}

func (c *cli) groupInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info GROUP", Short: "show one group or queue by partition", Args: exactly(1, "GROUP"),
		ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, err := groupInfos(cmd.Context(), cl, args[0])
				if err != nil {
					return err
				}
				return printList(c, infos, []string{"TOPIC", "PARTITION", "MODE", "OFFSET", "END", "LAG", "LAG-TIME", "IN-FLIGHT", "RETRYING", "PARKED", "DEAD"},
					func(g wire.GroupInfo) []any {
						return []any{
							g.Topic, g.Partition, g.Mode, g.Offset, g.End, g.Lag, seconds(g.LagSeconds), g.InFlight, g.Retrying, g.Parked, g.Dead,
						}
					})
			})
		},
	}
}

// groupInfos returns the partitions of a group that exists.
func groupInfos(ctx context.Context, cl *client.Client, name string) ([]wire.GroupInfo, error) {
	infos, err := cl.Groups(ctx, name)
	if err == nil && len(infos) == 0 {
		err = wire.CodeGroupNotFound
	}
	if err != nil {
		return nil, missingGroup(err, name)
	}
	return infos, nil
}

func missingGroup(err error, name string) error {
	if !errors.Is(err, wire.CodeGroupNotFound) {
		return err
	}
	f := explain(err)
	f.err = fmt.Errorf("no group or queue is called %q", name)
	return f
}

func (c *cli) groupRemoveCommand() *cobra.Command {
	var d destructive
	var topic string
	cmd := &cobra.Command{
		Use: "rm GROUP...", Aliases: []string{"delete"}, Short: "forget groups or queues and how far they are",
		Args: between(1, 1000, "GROUP"), ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return eachName(args, func(name string) error { return c.removeGroup(cmd, cl, &d, name, topic) })
			})
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "on this topic only")
	d.flags(cmd.Flags())
	return cmd
}

func (c *cli) removeGroup(cmd *cobra.Command, cl *client.Client, d *destructive, name, topic string) error {
	if _, err := groupInfos(cmd.Context(), cl, name); err != nil {
		return err
	}
	what := fmt.Sprintf("forget how far %q is", name)
	if topic != "" {
		what += " on topic " + topic
	}
	ok, err := d.confirm(c, cmd, what)
	if err != nil || !ok {
		return err
	}
	if err := cl.DeleteGroup(cmd.Context(), name, topic); err != nil {
		return missingGroup(err, name)
	}
	c.sayf("forgot %q", name)
	return nil
}
