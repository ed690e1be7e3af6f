package main

import (
	"context"
	"fmt"
	"slices"

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
	ok, err := s.confirm(c, cmd, what)
	if err != nil || !ok {
		return err
	}
	topics := map[string]map[int]uint64{}
	for _, r := range rows {
		if topics[r.Topic] == nil {
			topics[r.Topic] = map[int]uint64{}
		}
		topics[r.Topic][r.Partition] = r.To
	}
	for topic, offsets := range topics {
		if err := cl.SeekGroup(cmd.Context(), group, topic, offsets); err != nil {
			return err
		}
	}
	c.sayf("moved group %q to %s", group, to)
	return nil
}

// planSeek returns how every partition of the group would move. The group must be known on the
// topics, so that a misspelt name changes nothing.
func planSeek(ctx context.Context, cl *client.Client, topic, group string, partition uint16, to client.Position) ([]seekRow, error) {
	if topic != "" {
		if _, err := cl.Topic(ctx, topic); err != nil {
			return nil, err
		}
	}
	topics, err := topicsOf(ctx, cl, group)
	if err != nil {
		return nil, err
	}
	if topic != "" {
		if !slices.Contains(topics, topic) {
			return nil, fmt.Errorf("group %q does not read topic %q: %w", group, topic, wire.CodeGroupNotFound)
		}
		topics = []string{topic}
	}
	var only []int
	if partition != wire.AnyPartition {
		only = []int{int(partition)}
	}
	var rows []seekRow
	for _, t := range topics {
		moves, err := cl.PlanSeek(ctx, group, t, only, to)
		if err != nil {
			return nil, refusedSeek(err)
		}
		for _, m := range moves {
			rows = append(rows, seekRow{group, t, m.Partition, m.From, m.To})
		}
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
	infos, err := cl.Groups(ctx, group)
	if err != nil {
		return nil, err
	}
	members, err := cl.Members(ctx, group)
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
		return topics, nil
	case queue:
		return nil, &failure{
			exit: exitFailed, name: wire.CodeInvalid.String(), err: fmt.Errorf("%q is a queue: it has no position to move", group),
			hint: "to read again, use a queue of another name with --from; rafka dlq replay publishes dead letters again",
		}
	}
	return nil, missingGroup(wire.CodeGroupNotFound, group)
}
