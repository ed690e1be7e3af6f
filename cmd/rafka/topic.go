package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// topicRow is a topic as JSON.
type topicRow struct {
	Topic      string             `json:"topic"`
	ID         string             `json:"id"`
	Messages   uint64             `json:"messages"`
	Bytes      uint64             `json:"bytes"`
	Settings   map[string]setting `json:"settings"`
	Partitions []partitionRow     `json:"partitions"`
}

// setting is the value of a setting. In JSON it is a number if it counts something, and else a string.
type setting struct{ key, value string }

// MarshalJSON returns the value as JSON.
func (s setting) MarshalJSON() ([]byte, error) {
	counts := strings.HasSuffix(s.key, "_bytes") || strings.HasSuffix(s.key, "_count")
	if n, err := strconv.ParseUint(s.value, 10, 64); err == nil && counts {
		return json.Marshal(n)
	}
	return json.Marshal(s.value)
}

type partitionRow struct {
	Partition int    `json:"partition"`
	First     uint64 `json:"first"`
	Next      uint64 `json:"next"`
	Visible   uint64 `json:"visible"`
	Messages  uint64 `json:"messages"`
	Bytes     uint64 `json:"bytes"`
	Status    string `json:"status"`
}

var statusNames = map[wire.Status]string{
	wire.StatusOK: "ok", wire.StatusReadOnly: "read-only", wire.StatusFull: "full", wire.StatusForeign: "elsewhere",
}

func newTopicRow(t wire.TopicInfo) topicRow {
	row := topicRow{Topic: t.Topic, ID: hex.EncodeToString(t.ID[:]), Settings: make(map[string]setting)}
	for _, s := range t.Settings {
		row.Settings[s.Key] = setting{s.Key, s.Value}
	}
	for i, p := range t.Partitions {
		r := partitionRow{
			Partition: i, First: p.First, Next: p.Next, Visible: p.Visible, Bytes: p.Bytes,
			Messages: p.Visible - min(p.First, p.Visible), Status: statusNames[p.Status],
		}
		row.Messages += r.Messages
		row.Bytes += r.Bytes
		row.Partitions = append(row.Partitions, r)
	}
	return row
}

// status returns the worst state of the partitions.
func (t topicRow) status() string {
	for _, p := range t.Partitions {
		if p.Status != "ok" && p.Status != "elsewhere" {
			return p.Status
		}
	}
	return "ok"
}

func (c *cli) topicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "topic", Aliases: []string{"topics"}, Short: "look at, create, change and remove topics",
		Args: cobra.ArbitraryArgs, RunE: onlySubcommands,
	}
	cmd.AddCommand(c.topicListCommand(), c.topicInfoCommand(), c.topicCreateCommand(), c.topicEditCommand(),
		c.topicRemoveCommand(), c.topicPurgeCommand())
	return cmd
}

func (c *cli) topicListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "list the topics", Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				infos, err := cl.Topics(cmd.Context())
				if err != nil {
					return err
				}
				rows := make([]topicRow, len(infos))
				for i, t := range infos {
					rows[i] = newTopicRow(t)
				}
				return printList(c, rows, []string{"TOPIC", "PARTITIONS", "MESSAGES", "SIZE", "DURABILITY", "RETENTION", "STATUS"},
					func(t topicRow) []any {
						return []any{
							t.Topic, len(t.Partitions), t.Messages, humanize.IBytes(t.Bytes),
							t.Settings["durability"].value, t.Settings["retention"].value, t.status(),
						}
					})
			})
		},
	}
}

func (c *cli) topicInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info TOPIC", Aliases: []string{"show"}, Short: "show one topic with its partitions and settings", Args: exactly(1, "TOPIC"),
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				info, err := cl.Topic(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.printTopic(info)
			})
		},
	}
}

func (c *cli) printTopic(info wire.TopicInfo) error {
	row := newTopicRow(info)
	if c.asJSON() {
		return c.printJSON(row)
	}
	pairs := [][2]string{{"topic", row.Topic}, {"id", row.ID}}
	for _, s := range info.Settings {
		pairs = append(pairs, [2]string{s.Key, s.Value})
	}
	if err := c.printOne(row, pairs); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout); err != nil {
		return err
	}
	return printList(c, row.Partitions, []string{"PARTITION", "FIRST", "NEXT", "MESSAGES", "SIZE", "STATUS"},
		func(p partitionRow) []any {
			return []any{p.Partition, p.First, p.Visible, p.Messages, humanize.IBytes(p.Bytes), p.Status}
		})
}

// parseSettings parses pairs of the form key=value.
func parseSettings(cmd *cobra.Command, pairs []string) ([]wire.Setting, error) {
	var s []wire.Setting
	for _, p := range pairs {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return nil, usagef(cmd, "setting %q is not key=value", p)
		}
		s = append(s, wire.Setting{Key: key, Value: value})
	}
	return s, nil
}

// parsePartition parses the number of a partition. "" means all partitions.
func parsePartition(cmd *cobra.Command, s string) (uint16, error) {
	if s == "" {
		return wire.AnyPartition, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n >= wire.MaxPartitions {
		return 0, usagef(cmd, "partition %q does not exist", s)
	}
	return uint16(n), nil
}
