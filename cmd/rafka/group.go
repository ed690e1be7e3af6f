package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// groupRow is a group or queue on one topic, summed over the partitions.
type groupRow struct {
	Group       string    `json:"group"`
	Mode        string    `json:"mode"`
	Topic       string    `json:"topic"`
	Lag         uint64    `json:"lag"`
	LagSeconds  float64   `json:"lag_seconds"`
	InFlight    int       `json:"in_flight"`
	Retrying    int       `json:"retrying"`
	Parked      int       `json:"parked"`
	Dead        int       `json:"dead"`
	Partitions  int       `json:"partitions"`
	Members     int       `json:"members"`
	State       string    `json:"state"` // active, idle or paused; a queue is open or paused
	CommittedAt time.Time `json:"committed_at,omitzero"`
}

// sumGroups sums the partitions of each group and topic, in the order in which they first appear.
func sumGroups(infos []wire.GroupInfo, members []wire.GroupMembers) []groupRow {
	var rows []groupRow
	at := make(map[[3]string]int)
	row := func(group, mode, topic string) *groupRow {
		k := [3]string{group, mode, topic}
		i, ok := at[k]
		if !ok {
			i = len(rows)
			at[k] = i
			rows = append(rows, groupRow{Group: group, Mode: mode, Topic: topic})
		}
		return &rows[i]
	}
	for _, g := range infos {
		r := row(g.Group, g.Mode, g.Topic)
		r.Lag += g.Lag
		r.LagSeconds = max(r.LagSeconds, g.LagSeconds)
		r.InFlight += g.InFlight
		r.Retrying += g.Retrying
		r.Parked += g.Parked
		r.Dead += g.Dead
		r.Partitions++
		if g.Paused {
			r.State = "paused"
		}
		if g.CommittedAt.After(r.CommittedAt) {
			r.CommittedAt = g.CommittedAt
		}
	}
	for _, g := range members {
		for _, m := range g.Members {
			for _, t := range m.Topics {
				row(g.Group, "group", t).Members++
			}
		}
	}
	for i := range rows {
		rows[i].State = cmp.Or(rows[i].State, rows[i].activity())
	}
	return rows
}

// activity returns the state of a group that is not paused.
func (r *groupRow) activity() string {
	switch {
	case r.Mode == "queue":
		return "open"
	case r.Members > 0:
		return "active"
	}
	return "idle"
}

// memberCount returns the cell for the number of members. A queue has none: the broker does not
// count its workers.
func (r *groupRow) memberCount() any {
	if r.Mode == "queue" {
		return "-"
	}
	return r.Members
}

func seconds(s float64) string {
	return rounded(time.Duration(s*float64(time.Second)), time.Millisecond)
}

// rounded returns a duration for a table. Long ones are in days and hours.
func rounded(d, to time.Duration) string {
	const day = 24 * time.Hour
	if d = d.Round(to); d < 2*day {
		return d.String()
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

func (c *cli) groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Aliases: []string{"groups"}, Short: "show, move, pause and remove groups and queues",
		Args: cobra.ArbitraryArgs, RunE: onlySubcommands,
	}
	cmd.AddCommand(c.groupListCommand(), c.groupInfoCommand(), c.groupMembersCommand(), c.groupLagCommand(), c.groupSeekCommand(),
		c.groupPauseCommand(true), c.groupPauseCommand(false), c.groupRemoveCommand())
	return cmd
}

func (c *cli) groupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "list groups and queues with their lag", Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, members, err := groupsAndMembers(cmd.Context(), cl, "")
				if err != nil {
					return err
				}
				return printList(c, sumGroups(infos, members), []string{"GROUP", "MODE", "TOPIC", "LAG", "LAG-TIME", "IN-FLIGHT", "MEMBERS", "STATE"},
					func(g groupRow) []any {
						return []any{g.Group, g.Mode, g.Topic, g.Lag, seconds(g.LagSeconds), g.InFlight, g.memberCount(), g.State}
					})
			})
		},
	}
}

func (c *cli) groupInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info GROUP", Aliases: []string{"show"}, Short: "show one group or queue by partition", Args: exactly(1, "GROUP"),
		ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, err := groupInfos(cmd.Context(), cl, args[0])
				if err != nil {
					return err
				}
				return c.printGroup(infos)
			})
		},
	}
}

// printGroup prints the partitions of a group, of a queue, or of both when they have the same name. Tables have only
// what the mode has: with everything they would be too wide for a terminal.
func (c *cli) printGroup(infos []wire.GroupInfo) error {
	if c.asJSON() {
		return printList(c, infos, nil, nil)
	}
	isQueue := func(g wire.GroupInfo) bool { return g.Mode == "queue" }
	queues := slices.DeleteFunc(slices.Clone(infos), func(g wire.GroupInfo) bool { return !isQueue(g) })
	groups := slices.DeleteFunc(slices.Clone(infos), isQueue)
	if len(groups) > 0 {
		if err := c.printOffsets(groups); err != nil {
			return err
		}
	}
	if len(queues) == 0 {
		return nil
	}
	if len(groups) > 0 {
		if _, err := fmt.Fprintln(c.stdout); err != nil {
			return err
		}
	}
	return c.printQueues(queues)
}

func (c *cli) printOffsets(groups []wire.GroupInfo) error {
	return printList(c, groups, []string{"PARTITION", "OFFSET", "END", "LAG", "LAG-TIME", "COMMITTED", "MEMBER"},
		func(g wire.GroupInfo) []any {
			return []any{place(g), g.Offset, g.End, g.Lag, seconds(g.LagSeconds), ago(g.CommittedAt), holder(g)}
		})
}

func (c *cli) printQueues(queues []wire.GroupInfo) error {
	return printList(c, queues, []string{"PARTITION", "OFFSET", "LAG", "LAG-TIME", "IN-FLIGHT", "RETRYING", "PARKED", "DEAD", "STATE"},
		func(g wire.GroupInfo) []any {
			state := "open"
			if g.Paused {
				state = "paused"
			}
			return []any{place(g), g.Offset, g.Lag, seconds(g.LagSeconds), g.InFlight, g.Retrying, g.Parked, g.Dead, state}
		})
}

func place(g wire.GroupInfo) string { return fmt.Sprintf("%s/%d", g.Topic, g.Partition) }

// ago returns how long ago at was, for a table.
func ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return rounded(max(0, time.Since(at)), time.Second) + " ago"
}

// holder says who reads a partition, or why nobody does.
func holder(g wire.GroupInfo) string {
	if g.Paused {
		return "paused"
	}
	return cmp.Or(shortMember(g.Member), "-")
}

// shortMember returns enough of a member's id to tell it from others. JSON has all of it.
func shortMember(id string) string {
	if _, err := uuid.Parse(id); err == nil {
		return id[:8]
	}
	return id
}

// memberRow is one member of a group.
type memberRow struct {
	Group string `json:"group"`
	wire.GroupMember
}

func (c *cli) groupMembersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "members [GROUP]", Short: "show the members of groups and their partitions", Args: between(0, 1, "GROUP"),
		ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				groups, err := cl.Members(cmd.Context(), cmp.Or(append(args, "")...))
				if err != nil {
					return err
				}
				var rows []memberRow
				for _, g := range groups {
					for _, m := range g.Members {
						rows = append(rows, memberRow{g.Group, m})
					}
				}
				if len(args) > 0 && len(rows) == 0 {
					if _, err := groupInfos(cmd.Context(), cl, args[0]); err != nil {
						return err
					}
				}
				return printList(c, rows, []string{"GROUP", "MEMBER", "INSTANCE", "CONNECTION", "AGE", "SILENT", "PARTITIONS"},
					func(m memberRow) []any {
						return []any{
							m.Group, shortMember(m.Member), cmp.Or(m.Instance, "-"), m.Connection, wholeSeconds(m.Age), wholeSeconds(m.Silent), places(m.Partitions),
						}
					})
			})
		},
	}
}

func wholeSeconds(s float64) string {
	return rounded(time.Duration(s*float64(time.Second)), time.Second)
}

// shownRuns is how many runs of partitions of a member a table lists.
const shownRuns = 8

// places lists the first partitions of a member, as in "orders/0-3,7 mails/1".
func places(list []wire.MemberPartition) string {
	text, topic := "-", ""
	for i, runs := 0, 0; i < len(list); runs++ {
		if runs == shownRuns {
			return fmt.Sprintf("%s and %d more", text, len(list)-i)
		}
		first := list[i]
		last := first
		for i++; i < len(list) && list[i].Topic == first.Topic && list[i].Partition == last.Partition+1; i++ {
			last = list[i]
		}
		switch {
		case runs == 0:
			text = first.Topic + "/"
		case first.Topic == topic:
			text += ","
		default:
			text += " " + first.Topic + "/"
		}
		topic = first.Topic
		text += strconv.Itoa(first.Partition)
		if last != first {
			text += "-" + strconv.Itoa(last.Partition)
		}
	}
	return text
}

// groupInfos returns the partitions of a group, and an error when there is no such group.
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

// lagRow is the lag of a group or queue, of one of its topics, or of one partition.
type lagRow struct {
	Group      string  `json:"group"`
	Mode       string  `json:"mode"`
	Topic      string  `json:"topic,omitempty"`     // absent: all topics
	Partition  *int    `json:"partition,omitempty"` // absent: all partitions
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
}

func (r *lagRow) add(g *wire.GroupInfo) {
	r.Lag += g.Lag
	r.LagSeconds = max(r.LagSeconds, g.LagSeconds)
}

// lags returns a row for every group and topic, and for every partition if asked for. Groups with
// the greatest lag come first.
func lags(infos []wire.GroupInfo, partitions bool) []lagRow {
	sort := func(a, b wire.GroupInfo) int {
		return cmp.Or(
			cmp.Compare(a.Group, b.Group), cmp.Compare(a.Mode, b.Mode),
			cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition),
		)
	}
	slices.SortStableFunc(infos, sort)
	var groups [][]lagRow
	for i := range infos {
		g := &infos[i]
		if n := len(groups); n == 0 || groups[n-1][0].Group != g.Group || groups[n-1][0].Mode != g.Mode {
			groups = append(groups, []lagRow{{Group: g.Group, Mode: g.Mode}})
		}
		rows := &groups[len(groups)-1]
		at := slices.IndexFunc(*rows, func(r lagRow) bool { return r.Topic == g.Topic && r.Partition == nil })
		if at < 0 {
			at = len(*rows)
			*rows = append(*rows, lagRow{Group: g.Group, Mode: g.Mode, Topic: g.Topic})
		}
		(*rows)[0].add(g)
		(*rows)[at].add(g)
		if partitions {
			*rows = append(*rows, lagRow{g.Group, g.Mode, g.Topic, &g.Partition, g.Lag, g.LagSeconds})
		}
	}
	slices.SortStableFunc(groups, func(a, b []lagRow) int { return cmp.Compare(b[0].Lag, a[0].Lag) })
	return slices.Concat(groups...)
}

func (c *cli) groupLagCommand() *cobra.Command {
	var partitions bool
	cmd := &cobra.Command{
		Use: "lag [GROUP]", Short: "show the lag of groups and queues, in messages and time", Args: between(0, 1, "GROUP"),
		ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, err := cl.Groups(cmd.Context(), "")
				if len(args) > 0 {
					infos, err = groupInfos(cmd.Context(), cl, args[0])
				}
				if err != nil {
					return err
				}
				return printList(c, lags(infos, partitions || len(args) > 0), []string{"GROUP", "MODE", "TOPIC", "PARTITION", "LAG", "LAG-TIME"},
					func(r lagRow) []any {
						partition := "all"
						if r.Partition != nil {
							partition = fmt.Sprint(*r.Partition)
						}
						return []any{r.Group, r.Mode, cmp.Or(r.Topic, "all"), partition, r.Lag, seconds(r.LagSeconds)}
					})
			})
		},
	}
	cmd.Flags().BoolVar(&partitions, "partitions", false, "also show every partition; with GROUP they are always shown")
	return cmd
}

// groupChange is what was done to a group or queue, as JSON.
type groupChange struct {
	Action string `json:"action"` // paused, resumed or removed
	Group  string `json:"group"`
	Topic  string `json:"topic,omitempty"` // absent: on all topics
	dryRun
}

func (c *cli) groupPauseCommand(pause bool) *cobra.Command {
	var topic string
	use, short, said := "resume GROUP...", "let paused groups and queues go on", "resumed"
	if pause {
		use, short, said = "pause GROUP...", "stop groups and queues until they are resumed", "paused"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: between(1, 1000, "GROUP"), ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return eachName(args, func(name string) error {
					do := cl.ResumeGroup
					if pause {
						do = cl.PauseGroup
					}
					if err := do(cmd.Context(), name, topic); err != nil {
						return missingGroup(err, name)
					}
					return c.report(groupChange{Action: said, Group: name, Topic: topic}, "%s %q", said, name)
				})
			})
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "on this topic only")
	return cmd
}

func (c *cli) groupRemoveCommand() *cobra.Command {
	var d destructive
	var topic string
	cmd := &cobra.Command{
		Use: "rm GROUP...", Aliases: []string{"delete"}, Short: "delete groups or queues and their positions",
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
	change := groupChange{"removed", name, topic, d.dryRun}
	ok, err := d.confirm(c, cmd, change, what)
	if err != nil || !ok {
		return err
	}
	if err := cl.DeleteGroup(cmd.Context(), name, topic); err != nil {
		if errors.Is(err, wire.CodeFenced) {
			f := explain(err)
			f.hint = "stop its members first; rafka group members " + name + " shows them"
			return f
		}
		return missingGroup(err, name)
	}
	return c.report(change, "forgot %q", name)
}
