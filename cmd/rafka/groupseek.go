package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const seekExample = `  rafka group seek audit --to start --dry-run       what would be read again
  rafka group seek audit --to @-1h --yes            everything of the last hour again
  rafka group seek audit --topic orders --partition 2 --to committed+1 --yes
                                                    past a message that cannot be handled`

// seek holds the flags of rafka group seek.
type seek struct {
	destructive
	topic     string
	partition string
	to        string
}

// seekRow is one partition of a seek.
type seekRow struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	From      uint64 `json:"from"`
	To        uint64 `json:"to"`
}

func (c *cli) groupSeekCommand() *cobra.Command {
	var s seek
	cmd := &cobra.Command{
		Use: "seek GROUP --to POSITION", Short: "move a group to another position", Args: exactly(1, "GROUP"),
		Long: `Move the committed offsets of a group. Running members continue there after the message that they are
handling; what they did not commit before is not committed any more. Positions are
` + positionHelp + `,
and committed, committed+1 or committed-10, relative to where the group is.`,
		Example: seekExample, ValidArgsFunction: c.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.to == "" {
				return usagef(cmd, "say where to: --to %s", positionHelp)
			}
			to, err := client.ParsePosition(s.to)
			if err != nil {
				return usagef(cmd, "to: %v", err)
			}
			partition, err := parsePartition(cmd, s.partition)
			if err != nil {
				return err
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return c.seek(cmd, cl, &s, args[0], partition, to)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&s.to, "to", "", "the position to move to")
	fs.StringVar(&s.topic, "topic", "", "on this topic only")
	fs.StringVar(&s.partition, "partition", "", "on this partition only")
	s.flags(fs)
	return cmd
}

func (c *cli) seek(cmd *cobra.Command, cl *client.Client, s *seek, group string, partition uint16, to client.Position) error {
	rows, err := planSeek(cmd.Context(), cl, s.topic, group, partition, to)
	if err != nil {
		return err
	}
	var again, skipped uint64
	for _, r := range rows {
		again += r.From - min(r.From, r.To)
		skipped += r.To - min(r.From, r.To)
	}
	if err := printList(c, rows, []string{"TOPIC", "PARTITION", "FROM", "TO", "MESSAGES"}, func(r seekRow) []any {
		return []any{r.Topic, r.Partition, r.From, r.To, fmt.Sprintf("%+d", int64(r.To-r.From))}
	}); err != nil {
		return err
	}
	what := fmt.Sprintf("move group %q to %s: %s to read again, %s to leave out", group, to, plural(again, "message"), plural(skipped, "message"))
	ok, err := s.confirm(c, cmd, nil, what)
	if err != nil || !ok {
		return err
	}
	if err := c.moveGroup(cmd.Context(), cl, group, rows); err != nil {
		return err
	}
	c.sayf("moved group %q to %s", group, to)
	return nil
}

// moveGroup moves a group on all its topics at once. If some of them fail, the error says where it was moved.
func (c *cli) moveGroup(ctx context.Context, cl *client.Client, group string, rows []seekRow) error {
	offsets := map[string]map[int]uint64{}
	for _, r := range rows {
		if offsets[r.Topic] == nil {
			offsets[r.Topic] = map[int]uint64{}
		}
		offsets[r.Topic][r.Partition] = r.To
	}
	topics := slices.Sorted(maps.Keys(offsets))
	var moved []string
	var failed []error
	_ = inOrder(ctx, len(topics), func(ctx context.Context, i int) error {
		return cl.SeekGroup(ctx, group, topics[i], offsets[topics[i]])
	}, func(i int, err error) error {
		if err != nil {
			failed = append(failed, err)
		} else {
			moved = append(moved, topics[i])
		}
		return nil
	})
	if len(moved) == 0 || len(failed) == 0 {
		return errors.Join(failed...)
	}
	err := fmt.Errorf("group %q was moved on %s only: %w", group, strings.Join(moved, ", "), errors.Join(failed...))
	if ctx.Err() != nil { // nothing else is said of an interruption
		c.sayf("%v", err)
	}
	return &failure{exit: exitPartly, name: "PARTLY_DONE", err: err}
}

// planSeek returns how every partition of the group would move. The group must be known on the
// topics, so that a misspelt name changes nothing.
func planSeek(ctx context.Context, cl *client.Client, topic, group string, partition uint16, to client.Position) ([]seekRow, error) {
	topics, err := topicsOf(ctx, cl, group)
	if err != nil {
		return nil, err
	}
	if topic != "" {
		if !slices.Contains(topics, topic) {
			if _, err := cl.Topic(ctx, topic); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("group %q does not read topic %q: %w", group, topic, wire.CodeGroupNotFound)
		}
		topics = []string{topic}
	}
	var only []int
	if partition != wire.AnyPartition {
		only = []int{int(partition)}
	}
	var rows []seekRow
	moves := make([][]client.Move, len(topics))
	err = inOrder(ctx, len(topics), func(ctx context.Context, i int) (err error) {
		moves[i], err = cl.PlanSeek(ctx, group, topics[i], only, to)
		return err
	}, func(i int, err error) error {
		for _, m := range moves[i] {
			rows = append(rows, seekRow{group, topics[i], m.Partition, m.From, m.To})
		}
		return err
	})
	if err != nil {
		return nil, refusedSeek(err)
	}
	return rows, nil
}

// refusedSeek adds what to do about a position that a partition does not have.
func refusedSeek(err error) error {
	if wire.CodeOf(err) != wire.CodeOffsetOutOfRange {
		return err
	}
	f := explain(err)
	f.hint = "--topic TOPIC --partition N moves one partition; start, end, committed-10 and @-1h are somewhere in every one"
	return f
}

// topicsOf returns the topics on which a group has committed or has members.
func topicsOf(ctx context.Context, cl *client.Client, group string) ([]string, error) {
	infos, members, err := groupsAndMembers(ctx, cl, group)
	if err != nil {
		return nil, err
	}
	queue := false
	var topics []string
	for _, r := range sumGroups(infos, members) {
		if r.Mode == "group" {
			topics = append(topics, r.Topic)
		} else {
			queue = true
		}
	}
	switch {
	case len(topics) > 0:
		slices.Sort(topics)
		return topics, nil
	case queue:
		return nil, &failure{
			exit: exitFailed, name: wire.CodeInvalid.String(), err: fmt.Errorf("%q is a queue: it has no position to move", group),
			hint: "to read again, use a queue of another name with --from; rafka dlq replay publishes dead letters again",
		}
	}
	return nil, missingGroup(wire.CodeGroupNotFound, group)
}

// groupsAndMembers asks for both at once.
func groupsAndMembers(ctx context.Context, cl *client.Client, group string) ([]wire.GroupInfo, []wire.GroupMembers, error) {
	var infos []wire.GroupInfo
	var members []wire.GroupMembers
	asks := []func(context.Context) error{
		func(ctx context.Context) (err error) {
			infos, err = cl.Groups(ctx, group)
			return err
		},
		func(ctx context.Context) (err error) {
			members, err = cl.Members(ctx, group)
			return err
		},
	}
	err := inOrder(ctx, len(asks), func(ctx context.Context, i int) error { return asks[i](ctx) },
		func(_ int, err error) error { return err })
	return infos, members, err
}
