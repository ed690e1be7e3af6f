package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const dlqHelp = `A message that was rejected, or that failed at every delivery, goes to the dead-letter topic of its
queue. NAME is a queue or a dead-letter topic. Messages that were replayed or purged are not listed any
more; the dead-letter topic keeps them until its retention removes them.`

func (c *cli) dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dlq", Short: "show, replay and purge dead letters", Long: dlqHelp,
		Args: cobra.ArbitraryArgs, RunE: onlySubcommands,
	}
	cmd.AddCommand(c.dlqListCommand(), c.dlqPeekCommand(), c.dlqReplayCommand(), c.dlqPurgeCommand())
	return cmd
}

// dlqRow is a queue and the messages that it gave up.
type dlqRow struct {
	Queue      string `json:"queue"`
	Topic      string `json:"topic"`
	DeadLetter string `json:"dead_letter"`
	Dead       uint64 `json:"dead"` // in the dead-letter topic, from all queues that use it
	Moving     int    `json:"moving"`
}

func (c *cli) dlqListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "list the queues with dead letters", Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				rows, err := deadLetterRows(cmd.Context(), cl)
				if err != nil {
					return err
				}
				return printList(c, rows, []string{"QUEUE", "TOPIC", "DEAD-LETTER-TOPIC", "DEAD", "MOVING"},
					func(r dlqRow) []any { return []any{r.Queue, r.Topic, r.DeadLetter, r.Dead, r.Moving} })
			})
		},
	}
}

// deadLetterRows returns every queue that has dead letters which were not replayed or purged.
func deadLetterRows(ctx context.Context, cl *client.Client) ([]dlqRow, error) {
	infos, err := cl.Groups(ctx, "")
	if err != nil {
		return nil, err
	}
	topics, err := cl.Topics(ctx)
	if err != nil {
		return nil, err
	}
	left := map[string]uint64{} // by dead-letter topic
	for _, t := range topics {
		for _, p := range t.Partitions {
			left[t.Topic] += p.Visible - p.First
		}
	}
	counted := map[string]uint64{}
	for _, g := range infos {
		if g.Group == client.DeadLetterQueue && g.Mode == "queue" {
			counted[g.Topic] += g.Lag
			left[g.Topic] = counted[g.Topic]
		}
	}
	var rows []dlqRow
	for _, g := range infos {
		if g.DeadLetter == "" || g.Group == client.DeadLetterQueue {
			continue
		}
		i := slices.IndexFunc(rows, func(r dlqRow) bool { return r.Queue == g.Group && r.Topic == g.Topic })
		if i < 0 {
			i = len(rows)
			rows = append(rows, dlqRow{Queue: g.Group, Topic: g.Topic, DeadLetter: g.DeadLetter, Dead: left[g.DeadLetter]})
		}
		rows[i].Moving += g.Dead
	}
	return slices.DeleteFunc(rows, func(r dlqRow) bool { return r.Dead == 0 && r.Moving == 0 }), nil
}

// deadFilter holds the flags that choose dead letters.
type deadFilter struct {
	headers []string
	reason  string
	key     string
	since   string
	until   string
	limit   int

	hasKey      bool
	pattern     *regexp.Regexp
	first, last time.Time
}

func (f *deadFilter) flags(cmd *cobra.Command, limit int) {
	fs := cmd.Flags()
	fs.StringArrayVarP(&f.headers, "header", "H", nil, "only those with this header, name=value; may be repeated")
	fs.StringVar(&f.reason, "reason", "", "only those whose reason matches this regular expression")
	fs.StringVarP(&f.key, "key", "k", "", "only those with this key")
	fs.StringVar(&f.since, "since", "", "only those whose last failure was then or later: a time such as 2026-11-22T10:00, or 1h for an hour ago")
	fs.StringVar(&f.until, "until", "", "only those whose last failure was before then")
	fs.IntVarP(&f.limit, "count", "n", limit, "at most this many; 0 for all")
}

func (f *deadFilter) prepare(cmd *cobra.Command) error {
	f.hasKey = cmd.Flags().Changed("key")
	if err := checkHeaders(cmd, f.headers); err != nil {
		return err
	}
	if f.limit < 0 {
		return usagef(cmd, "--count cannot be negative")
	}
	var err error
	if f.pattern, err = regexp.Compile(f.reason); err != nil {
		return usagef(cmd, "--reason: %v", err)
	}
	if f.first, err = parseMoment(f.since); err != nil {
		return usagef(cmd, "--since: %v", err)
	}
	if f.last, err = parseMoment(f.until); err != nil {
		return usagef(cmd, "--until: %v", err)
	}
	return nil
}

// parseMoment parses a time, or a duration before now. "" is the zero time.
func parseMoment(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := parseTime(s)
	if err != nil {
		return t, fmt.Errorf("%w, or a duration such as 90m", err)
	}
	return t, nil
}

// parseTime parses a time in RFC 3339, or a local time without a zone.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-11-22T10:00", s)
}

func (f *deadFilter) wants(d *client.DeadLetter) bool {
	for _, h := range f.headers {
		name, value, _ := strings.Cut(h, "=")
		if !slices.ContainsFunc(d.Headers, func(h client.Header) bool { return h.Name == name && string(h.Value) == value }) {
			return false
		}
	}
	return (!f.hasKey || d.Key != nil && string(d.Key) == f.key) && f.pattern.MatchString(d.Reason) &&
		(f.first.IsZero() || !d.Last.Before(f.first)) && (f.last.IsZero() || d.Last.Before(f.last))
}

// deadLetters calls each for every dead letter of a queue or topic that the filter matches.
func deadLetters(ctx context.Context, cl *client.Client, name string, f *deadFilter, each func(*client.DeadLetter) error) error {
	topics, queue, err := deadTopics(ctx, cl, name)
	if err != nil {
		return err
	}
	n := 0
	for _, topic := range topics {
		for d, err := range cl.DeadLetters(ctx, topic) {
			if err != nil {
				return err
			}
			if queue && d.Queue != name || !f.wants(d) {
				continue
			}
			if err := each(d); err != nil {
				return err
			}
			if n++; n == f.limit {
				return nil
			}
		}
	}
	return nil
}

// deadTopics returns the dead-letter topics that exist of the queue with this name, or else the
// topic with this name. queue tells which.
func deadTopics(ctx context.Context, cl *client.Client, name string) (topics []string, queue bool, err error) {
	infos, err := cl.Groups(ctx, name)
	if err != nil {
		return nil, false, err
	}
	for _, g := range infos {
		if g.DeadLetter == "" || slices.Contains(topics, g.DeadLetter) {
			continue
		}
		queue = true
		switch _, err := cl.Topic(ctx, g.DeadLetter); {
		case errors.Is(err, wire.CodeTopicNotFound): // the queue has given up nothing yet
		case err != nil:
			return nil, false, err
		default:
			topics = append(topics, g.DeadLetter)
		}
	}
	if queue {
		return topics, true, nil
	}
	if _, err := cl.Topic(ctx, name); errors.Is(err, wire.CodeTopicNotFound) {
		f := explain(wire.CodeGroupNotFound)
		f.err, f.hint = fmt.Errorf("no queue and no dead-letter topic is called %q", name), "rafka dlq ls shows the queues with dead letters"
		return nil, false, f
	}
	return []string{name}, false, nil
}

// deadLetter is a dead letter as JSON.
type deadLetter struct {
	Queue     string `json:"queue"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    uint64 `json:"offset"`
	Reason    string `json:"reason"`
	Attempts  int    `json:"attempts"`
	First     string `json:"first_time"`
	Last      string `json:"last_time"`
	Message   any    `json:"message"`
}

func newDeadLetter(d *client.DeadLetter) deadLetter {
	return deadLetter{
		Queue: d.Queue, Topic: d.OriginTopic, Partition: d.OriginPartition, Offset: d.OriginOffset,
		Reason: d.Reason, Attempts: d.Attempts, First: d.First.UTC().Format(jsonTime), Last: d.Last.UTC().Format(jsonTime),
		Message: newMessage(&d.Message),
	}
}

func (c *cli) dlqPeekCommand() *cobra.Command {
	var f deadFilter
	cmd := &cobra.Command{
		Use: "peek NAME", Short: "show dead letters without changing them", Args: exactly(1, "NAME"),
		ValidArgsFunction: c.completeGroup, Example: "  rafka dlq peek mailer -n 5 --reason smtp",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.prepare(cmd); err != nil {
				return err
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				var letters []deadLetter
				err := deadLetters(cmd.Context(), cl, args[0], &f, func(d *client.DeadLetter) error {
					letters = append(letters, newDeadLetter(d))
					return nil
				})
				if err != nil {
					return err
				}
				return printList(c, letters, []string{"MESSAGE", "KEY", "ATTEMPTS", "LAST", "REASON"}, func(d deadLetter) []any {
					key := "-"
					if m := d.Message.(message); m.Key != nil {
						key = printable([]byte(*m.Key))
					}
					return []any{fmt.Sprintf("%s/%d@%d", d.Topic, d.Partition, d.Offset), key, d.Attempts, d.Last, printable([]byte(d.Reason))}
				})
			})
		},
	}
	f.flags(cmd, 10)
	return cmd
}

// deadBatch is how many dead letters are replayed or purged at a time.
const deadBatch = 500

// deadAction is a command that does something with the dead letters that it selects.
type deadAction struct {
	verb, done string // "purge", "purged"
	do         func(context.Context, *client.Client, []*client.DeadLetter) (n int, err error)
	filter     deadFilter
	ask        destructive
}

func (c *cli) dlqReplayCommand() *cobra.Command {
	a := deadAction{verb: "replay", done: "replayed"}
	a.do = func(ctx context.Context, cl *client.Client, letters []*client.DeadLetter) (int, error) {
		return cl.ReplayDead(ctx, letters...)
	}
	return c.dlqActionCommand(&a, "publish dead letters again where they came from",
		"  rafka dlq replay mailer --reason 'smtp timeout' --dry-run\n  rafka dlq replay mailer --since 1h --yes")
}

func (c *cli) dlqPurgeCommand() *cobra.Command {
	a := deadAction{verb: "purge", done: "purged"}
	a.do = func(ctx context.Context, cl *client.Client, letters []*client.DeadLetter) (int, error) {
		return len(letters), cl.DiscardDead(ctx, letters...)
	}
	return c.dlqActionCommand(&a, "discard dead letters for good", "  rafka dlq purge mailer --until 2026-11-01 --yes")
}

// deadChange is what was done with dead letters, as JSON.
type deadChange struct {
	Action   string `json:"action"` // replayed or purged
	Name     string `json:"name"`   // of the queue or the dead-letter topic
	Messages int    `json:"messages"`
	dryRun
}

func (c *cli) dlqActionCommand(a *deadAction, short, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use: a.verb + " NAME", Short: short, Args: exactly(1, "NAME"), ValidArgsFunction: c.completeGroup, Example: example,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.filter.prepare(cmd); err != nil {
				return err
			}
			return c.withClient(cmd.Context(), client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				return c.changeDead(cmd, cl, args[0], a)
			})
		},
	}
	a.filter.flags(cmd, 0)
	a.ask.flags(cmd.Flags())
	return cmd
}

func (c *cli) changeDead(cmd *cobra.Command, cl *client.Client, name string, a *deadAction) error {
	ctx := cmd.Context()
	if !a.ask.yes {
		total := 0
		err := deadLetters(ctx, cl, name, &a.filter, func(*client.DeadLetter) error {
			total++
			return nil
		})
		if err != nil {
			return err
		}
		change := deadChange{a.done, name, total, a.ask.dryRun}
		what := fmt.Sprintf("%s %s of %q", a.verb, plural(uint64(total), "dead letter"), name)
		ok, err := a.ask.confirm(c, cmd, change, what)
		if err != nil || !ok {
			return err
		}
	}
	var letters []*client.DeadLetter
	changed := 0
	flush := func() error {
		n, err := a.do(ctx, cl, letters)
		changed += n
		letters = nil
		return err
	}
	err := deadLetters(ctx, cl, name, &a.filter, func(l *client.DeadLetter) error {
		if letters = append(letters, l); len(letters) == deadBatch {
			return flush()
		}
		return nil
	})
	if err == nil && len(letters) > 0 {
		err = flush()
	}
	if err != nil && changed == 0 {
		return err
	}
	what := deadChange{Action: a.done, Name: name, Messages: changed}
	err = cmp.Or(err, c.report(what, "%s %s of %q", a.done, plural(uint64(changed), "dead letter"), name))
	if err != nil {
		fail := explain(err)
		fail.exit = exitPartly
		return fail
	}
	return err
}
