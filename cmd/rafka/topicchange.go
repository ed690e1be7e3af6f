package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// topicSettings are the settings that have flags of their own. --set can set every setting.
var topicSettings = []struct{ flag, key, usage string }{
	{"durability", "durability", "what an acknowledgement promises at least: memory, os or disk"},
	{"retention", "retention", "how long messages are kept, such as 7d; 0 for ever"},
	{"retention-bytes", "retention_bytes", "bytes kept per partition, such as 10GiB; 0 for no limit"},
	{"hash", "hash", "how keys choose partitions: xxhash64, murmur2 or sum"},
}

// shape holds the flags of topic create and topic edit.
type shape struct {
	partitions int
	pairs      []string
}

func (s *shape) flags(cmd *cobra.Command, partitions string) {
	fs := cmd.Flags()
	fs.IntVarP(&s.partitions, "partitions", "p", 0, partitions)
	fs.StringArrayVar(&s.pairs, "set", nil, "setting as key=value; may be repeated; rafka topic info shows the keys")
	for _, t := range topicSettings {
		fs.String(t.flag, "", t.usage)
	}
}

func (s *shape) settings(cmd *cobra.Command) ([]wire.Setting, error) {
	if s.partitions < 0 || s.partitions > wire.MaxPartitions {
		return nil, usagef(cmd, "%d partitions are not possible: 1 to %d", s.partitions, wire.MaxPartitions)
	}
	settings, err := parseSettings(cmd, s.pairs)
	for _, t := range topicSettings {
		if f := cmd.Flags().Lookup(t.flag); f.Changed {
			settings = append(settings, wire.Setting{Key: t.key, Value: f.Value.String()})
		}
	}
	return settings, err
}

func (c *cli) topicCreateCommand() *cobra.Command {
	var s shape
	var exists bool
	cmd := &cobra.Command{
		Use: "create TOPIC", Short: "create a topic", Args: exactly(1, "TOPIC"),
		Example: "  rafka topic create orders --partitions 12 --retention 30d",
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(cmd)
			if err != nil {
				return err
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				create, done := cl.CreateTopic, "created"
				if exists {
					create, done = cl.EnsureTopic, "there is"
				}
				info, err := create(cmd.Context(), args[0], client.TopicOptions{Partitions: s.partitions, Settings: settings})
				if err != nil {
					return err
				}
				return c.changedTopic(done, info)
			})
		},
	}
	s.flags(cmd, "number of partitions; 0 for the broker's default")
	cmd.Flags().BoolVar(&exists, "if-not-exists", false, "do nothing if the topic exists")
	return cmd
}

func (c *cli) topicEditCommand() *cobra.Command {
	var s shape
	cmd := &cobra.Command{
		Use: "edit TOPIC", Aliases: []string{"alter"}, Short: "change settings, or add partitions", Args: exactly(1, "TOPIC"),
		Example:           "  rafka topic edit orders --retention 90d --set max_record_bytes=4MiB",
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := s.settings(cmd)
			if err != nil {
				return err
			}
			if len(settings) == 0 && s.partitions == 0 {
				return usagef(cmd, "nothing to change: name a setting or --partitions")
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				info, err := cl.AlterTopic(cmd.Context(), args[0], client.TopicOptions{Partitions: s.partitions, Settings: settings})
				if err != nil {
					return err
				}
				return c.changedTopic("changed", info)
			})
		},
	}
	s.flags(cmd, "new number of partitions: more than before; keys may move to other partitions")
	return cmd
}

// changedTopic says on stderr what was done. It prints the topic on stdout if JSON is asked for.
func (c *cli) changedTopic(what string, info wire.TopicInfo) error {
	if c.asJSON() {
		return c.printJSON(newTopicRow(info))
	}
	n := len(info.Partitions)
	c.sayf("%s topic %q (%s)", what, info.Topic, plural(uint64(n), "partition"))
	return nil
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
}

// topicChange is what was taken away, as JSON.
type topicChange struct {
	Action   string `json:"action"` // removed or purged
	Topic    string `json:"topic"`
	Messages uint64 `json:"messages"`
	dryRun
}

func (c *cli) topicRemoveCommand() *cobra.Command {
	var d destructive
	cmd := &cobra.Command{
		Use: "rm TOPIC...", Aliases: []string{"delete"}, Short: "remove topics with all their messages",
		Args: between(1, 1000, "TOPIC"), ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return eachName(args, func(name string) error { return c.removeTopic(cmd, cl, &d, name) })
			})
		},
	}
	d.flags(cmd.Flags())
	return cmd
}

func (c *cli) removeTopic(cmd *cobra.Command, cl *client.Client, d *destructive, name string) error {
	info, err := cl.Topic(cmd.Context(), name)
	if err != nil {
		return err
	}
	row := newTopicRow(info)
	change := topicChange{"removed", name, row.Messages, d.dryRun}
	ok, err := d.confirm(c, cmd, change, fmt.Sprintf("remove topic %q with %s", name, plural(row.Messages, "message")))
	if err != nil || !ok {
		return err
	}
	if err := cl.DeleteTopic(cmd.Context(), name); err != nil {
		return err
	}
	return c.report(change, "removed topic %q", name)
}

// eachName calls fn for every name. When only some calls succeed, the failure says so.
func eachName(names []string, fn func(name string) error) error {
	var failed []error
	for _, name := range names {
		if err := fn(name); err != nil {
			failed = append(failed, err)
		}
	}
	switch {
	case len(names) == 1 && len(failed) == 1:
		return failed[0]
	case len(failed) == 0 || len(failed) == len(names):
		return errors.Join(failed...)
	}
	return &failure{
		exit: exitPartly, name: "PARTLY_DONE",
		err: fmt.Errorf("%d of %d failed: %w", len(failed), len(names), errors.Join(failed...)),
	}
}

const purgeExample = `  rafka topic purge orders --yes                     everything
  rafka topic purge orders --before @-7d --yes       what is older than a week
  rafka topic purge orders --before -1000 --yes      all but the last thousand of every partition`

func (c *cli) topicPurgeCommand() *cobra.Command {
	var d destructive
	var before, only string
	cmd := &cobra.Command{
		Use: "purge TOPIC", Short: "remove messages, keep the topic", Args: exactly(1, "TOPIC"),
		Example: purgeExample, ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			position, err := client.ParsePosition(before)
			if err != nil {
				return usagef(cmd, "before: %v", err)
			}
			partition, err := parsePartition(cmd, only)
			if err != nil {
				return err
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return c.purge(cmd, cl, &d, args[0], partition, position)
			})
		},
	}
	cmd.Flags().StringVar(&before, "before", "end", "remove the messages before this position: "+positionHelp)
	cmd.Flags().StringVar(&only, "partition", "", "of this partition only")
	d.flags(cmd.Flags())
	return cmd
}

// cut is what a purge removes from one partition.
type cut struct {
	partition int
	before    uint64
	messages  uint64
}

// purge removes messages after a confirmation. To remove all of a topic takes one request, as the broker waits for the disk
// once for each. What somebody was asked about is removed up to where the partitions ended then.
func (c *cli) purge(cmd *cobra.Command, cl *client.Client, d *destructive, topic string, only uint16, before client.Position) error {
	cuts, err := planPurge(cmd.Context(), cl, topic, only, before)
	if err != nil {
		return err
	}
	var total uint64
	for _, k := range cuts {
		total += k.messages
	}
	change := topicChange{"purged", topic, total, d.dryRun}
	ok, err := d.confirm(c, cmd, change, fmt.Sprintf("remove %s from topic %q", plural(total, "message"), topic))
	if err != nil || !ok {
		return err
	}
	if len(cuts) > 1 && d.yes && only == wire.AnyPartition && before == client.End() {
		cuts = []cut{{partition: client.AllPartitions, before: client.PurgeAll}}
	}
	err = inOrder(cmd.Context(), len(cuts), func(ctx context.Context, i int) error {
		return cl.PurgeTopic(ctx, topic, cuts[i].partition, cuts[i].before)
	}, func(_ int, err error) error { return err })
	if err != nil {
		return err
	}
	return c.report(change, "removed %s from topic %q", plural(total, "message"), topic)
}

// planPurge returns, for each partition, the offset before which messages would be removed.
func planPurge(ctx context.Context, cl *client.Client, topic string, only uint16, before client.Position) ([]cut, error) {
	info, err := cl.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	if only != wire.AnyPartition && int(only) >= len(info.Partitions) {
		return nil, fmt.Errorf("topic %s has %s: %w", topic, plural(uint64(len(info.Partitions)), "partition"), wire.CodePartitionNotFound)
	}
	var mine []int
	for p, state := range info.Partitions {
		if (only == wire.AnyPartition || p == int(only)) && state.Status != wire.StatusForeign {
			mine = append(mine, p)
		}
	}
	replies, err := cl.OffsetsOf(ctx, topic, mine, before)
	if err != nil {
		return nil, err
	}
	var cuts []cut
	for i, o := range replies {
		p := mine[i]
		if first := info.Partitions[p].First; o.Offset > first {
			cuts = append(cuts, cut{partition: p, before: o.Offset, messages: o.Offset - first})
		}
	}
	return cuts, nil
}
