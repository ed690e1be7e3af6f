package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
)

// isPattern reports whether a name has a wildcard, so that it can only be a pattern of subjects.
func isPattern(name string) bool {
	tokens := strings.Split(name, ".")
	return slices.Contains(tokens, "*") || slices.Contains(tokens, ">")
}

// listen prints messages on subjects until there were enough or ctx ends.
func (c *cli) listen(ctx context.Context, cl *client.Client, r *reading) error {
	if r.forTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.forTime, errTimeUp)
		defer cancel()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := c.newMessageWriter()
	var n atomic.Int64
	l, err := cl.Listen(ctx, r.topic, client.ListenOptions{Queue: r.queue}, func(_ context.Context, m *client.Message) {
		if r.limit > 0 && n.Load() == int64(r.limit) {
			return
		}
		m.Time = time.Now()
		err := out.write(m, true)
		if n.Add(1) == int64(r.limit) && err == nil {
			err = errEnough
		}
		if err != nil {
			stop(err)
		}
	})
	if err != nil {
		return err
	}
	c.sayf("listening on %s", r.topic)
	<-l.Done()
	err = cmp.Or(ended(ctx, cmp.Or(l.Close(), context.Cause(ctx)), r.limit > 0), out.flush())
	c.sayf("%s", plural(uint64(n.Load()), "message"))
	return err
}

// sendOne sends one message to a subject.
func (c *cli) sendOne(ctx context.Context, o client.Options, p *publication, value []string) error {
	m := p.message()
	m.Subject, m.Topic = p.topic, ""
	var err error
	if m.Value, err = c.valueOf(ctx, value, p.file); err != nil {
		return err
	}
	refused := make(chan error, 1)
	o.OnError = func(err error) {
		select {
		case refused <- err:
		default:
		}
	}
	return c.withClient(ctx, o, func(cl *client.Client) error {
		ctx, cancel := c.asking(ctx)
		defer cancel()
		if err := cl.Send(ctx, m); err != nil {
			return err
		}
		if _, err := cl.Ping(ctx); err != nil { // a refusal of the message arrives before this answer
			return err
		}
		select {
		case err := <-refused:
			return err
		default:
			return nil
		}
	})
}

// valueOf returns the value given on the command line, or else the content of the file or of stdin.
func (c *cli) valueOf(ctx context.Context, value []string, file string) ([]byte, error) {
	if len(value) == 1 {
		return []byte(value[0]), nil
	}
	in, err := c.open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return untilDone(ctx, func() ([]byte, error) { return readMessage(in) })
}

const reqExample = `  rafka req time.now ''
  rafka req jobs.eu '{"id":7}' -H trace=1        a topic bound to jobs.> answers where it stored it
  echo hi | rafka req echo -o jsonl`

// reqCommand sends requests to a subject.
func (c *cli) reqCommand() *cobra.Command {
	p := publication{partition: -1}
	count := 1
	cmd := &cobra.Command{
		Use:         "req SUBJECT [VALUE]",
		Aliases:     []string{"request"},
		Short:       "send a request to a subject and print the answer",
		Long:        "Send VALUE, or the content of stdin, to a subject and print the answer.",
		Example:     reqExample,
		Args:        between(1, 2, "SUBJECT"),
		Annotations: map[string]string{"raw": "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.topic, p.hasKey = args[0], cmd.Flags().Changed("key")
			if err := checkHeaders(cmd, p.headers); err != nil {
				return err
			}
			if count < 1 {
				return usagef(cmd, "--count is at least 1")
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return c.request(cmd.Context(), cl, &p, args[1:], count)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&p.key, "key", "k", "", "key of the message")
	fs.StringArrayVarP(&p.headers, "header", "H", nil, "header, name=value; may be repeated")
	fs.IntVarP(&count, "count", "n", 1, "send this many requests, one after the other")
	return cmd
}

func (c *cli) request(ctx context.Context, cl *client.Client, p *publication, value []string, count int) error {
	m := p.message()
	m.Subject, m.Topic = p.topic, ""
	var err error
	if m.Value, err = c.valueOf(ctx, value, ""); err != nil {
		return err
	}
	out := c.newMessageWriter()
	for range count {
		start := time.Now()
		answer, err := c.askOnce(ctx, cl, m)
		if err != nil {
			return err
		}
		answer.Time = time.Now()
		if c.asJSON() {
			err = out.write(answer, true)
		} else {
			_, err = fmt.Fprintf(c.stdout, "%s\n", c.onTerminal(answer.Value))
		}
		if err != nil {
			return err
		}
		if c.errTTY {
			c.sayf("answered in %s", time.Since(start).Round(time.Microsecond))
		}
	}
	return nil
}

func (c *cli) askOnce(ctx context.Context, cl *client.Client, m *client.Message) (*client.Message, error) {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	answer, err := cl.Request(ctx, m)
	if errors.Is(err, client.ErrNoResponders) {
		return nil, &failure{
			exit: exitNotFound, name: "NO_RESPONDERS", err: fmt.Errorf("nobody answers on %s", m.Subject),
			hint: "to answer requests: rafka reply " + m.Subject,
		}
	}
	return answer, err
}

const replyExample = `  rafka reply echo                               sends back what came
  rafka reply time.now --exec date --queue clocks
  rafka reply ping pong -n 1`

// replyCommand answers requests to subjects.
func (c *cli) replyCommand() *cobra.Command {
	var queue, command string
	var limit, workers int
	cmd := &cobra.Command{
		Use:   "reply SUBJECT [VALUE]",
		Short: "answer requests to a subject",
		Long: `Answer with VALUE, with the output of a command, or with the value of the request itself. With --exec,
sh runs the command for every request, with the value on stdin and RAFKA_SUBJECT and RAFKA_KEY in the
environment. When the command fails, the answer is an error.`,
		Example: replyExample,
		Args:    between(1, 2, "SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && command != "" {
				return usagef(cmd, "the answer is given twice: as VALUE and by --exec")
			}
			if limit < 0 || workers < 1 || workers > client.MaxWorkers {
				return usagef(cmd, "--workers is 1 to %d, and --count not negative", client.MaxWorkers)
			}
			answer := func(_ context.Context, m *client.Message) ([]byte, error) { return m.Value, nil }
			switch {
			case command != "":
				answer = func(ctx context.Context, m *client.Message) ([]byte, error) { return c.commandOutput(ctx, command, m) }
			case len(args) == 2:
				answer = func(context.Context, *client.Message) ([]byte, error) { return []byte(args[1]), nil }
			}
			return c.withClient(cmd.Context(), client.Options{}, func(cl *client.Client) error {
				return c.reply(cmd.Context(), cl, args[0], client.ListenOptions{Queue: queue, Workers: workers}, limit, answer)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&queue, "queue", "", "share the requests with other programs in this queue group")
	fs.StringVar(&command, "exec", "", "run this command for each request")
	fs.IntVarP(&workers, "workers", "w", 1, "number of requests answered at the same time")
	fs.IntVarP(&limit, "count", "n", 0, "end after this many requests")
	return cmd
}

func (c *cli) reply(ctx context.Context, cl *client.Client, subject string, o client.ListenOptions, limit int,
	answer func(context.Context, *client.Message) ([]byte, error),
) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var taken atomic.Int64
	l, err := cl.Reply(ctx, subject, o, func(ctx context.Context, m *client.Message) ([]byte, error) {
		n := taken.Add(1)
		if limit > 0 && n > int64(limit) {
			return nil, errEnough
		}
		if n == int64(limit) {
			defer stop(errEnough)
		}
		return answer(ctx, m)
	})
	if err != nil {
		return err
	}
	c.sayf("answering on %s", subject)
	<-l.Done()
	return ended(ctx, cmp.Or(l.Close(), context.Cause(ctx)), false)
}
