package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const getExample = `  rafka topic create users --set cleanup=compact
  rafka pub users '{"name":"Alice"}' --key alice
  rafka get users alice
  rafka get users alice -o jsonl`

func (c *cli) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get TOPIC KEY",
		Short: "print the latest message of a key",
		Long: `Print the latest message with this key on a compacted topic: its value alone, or everything with
-o json. The exit code is 5 when the key was never published, or was deleted.`,
		Example:           getExample,
		Args:              exactly(2, "TOPIC KEY"),
		Annotations:       map[string]string{"raw": "yes"},
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(cmd.Context(), client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				ctx, cancel := c.asking(cmd.Context())
				defer cancel()
				m, err := cl.Get(ctx, args[0], []byte(args[1]))
				if errors.Is(err, wire.CodeInvalid) {
					f := explain(err)
					f.hint = "rafka topic edit TOPIC --set cleanup=compact keeps the latest message of every key, and looks it up"
					return f
				}
				if err != nil {
					return err
				}
				return c.printValue(m)
			})
		},
	}
}

// printValue prints the value of a message, or all of the message when JSON is asked for.
func (c *cli) printValue(m *client.Message) error {
	if c.asJSON() {
		return c.printJSON(newMessage(m))
	}
	_, err := fmt.Fprintf(c.stdout, "%s\n", c.onTerminal(m.Value))
	return err
}
