package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rafka-mq/rafka/client"
)

// completeTimeout bounds how long a press of the tab key waits for the broker.
const completeTimeout = time.Second

// completeTopic completes names of topics.
func (c *cli) completeTopic(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.complete(cmd, args, func(ctx context.Context, cl *client.Client) ([]string, error) {
		infos, err := cl.Topics(ctx)
		var names []string
		for _, t := range infos {
			names = append(names, t.Topic)
		}
		return names, err
	})
}

// completeGroup completes names of groups and queues.
func (c *cli) completeGroup(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.complete(cmd, args, func(ctx context.Context, cl *client.Client) ([]string, error) {
		infos, err := cl.Groups(ctx, "")
		var names []string
		for _, g := range sumGroups(infos, nil) {
			names = append(names, g.Group)
		}
		return names, err
	})
}

// flagWords are the values of flags that have a few. The usage of a flag names those that it takes.
var flagWords = map[string][]string{
	"output":     {"table", "json", "jsonl"},
	"durability": {"none", "memory", "os", "disk"},
	"codec":      {"none", "s2", "zstd", "lz4"},
	"hash":       {"xxhash64", "murmur2", "sum"},
	"algorithm":  {"bcrypt", "argon2id"},
}

// flagFiles are the flags whose values are names of files, which the shell completes.
var flagFiles = []string{"file", "config", "data", "dir", "write", "port-file", "nkey", "tls-ca", "tls-cert", "tls-key"}

// completeValues says how the shell completes the values of the flags, and arguments, of cmd and its commands. It would
// offer names of files for what says nothing.
func (c *cli) completeValues(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && cmd.Use != "inspect DIR" && cmd.Use != "verify DIR" && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	set := func(f *pflag.Flag) {
		values := cobra.NoFileCompletions
		words := slices.DeleteFunc(slices.Clone(flagWords[f.Name]), func(w string) bool { return !strings.Contains(f.Usage, w) })
		switch {
		case slices.Contains(flagFiles, f.Name):
			return
		case len(words) > 0:
			values = cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		case f.Name == "topic":
			values = func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return c.completeTopic(cmd, nil, word)
			}
		case f.Name == "group" || f.Name == "queue" && cmd.Name() == "consume":
			values = func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return c.completeGroup(cmd, nil, word)
			}
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, values) // fails only if the flag does not exist
	}
	cmd.LocalNonPersistentFlags().VisitAll(set)
	cmd.PersistentFlags().VisitAll(set)
	for _, sub := range cmd.Commands() {
		c.completeValues(sub)
	}
}

func (c *cli) complete(cmd *cobra.Command, args []string, names func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && !strings.Contains(cmd.Use, "...") || c.flagsFromEnv(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c.timeout = completeTimeout
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	var found []string
	_ = c.withClient(ctx, client.Options{}, func(cl *client.Client) (err error) {
		found, err = names(ctx, cl)
		return err
	})
	found = slices.DeleteFunc(found, func(name string) bool { return slices.Contains(args, name) })
	return found, cobra.ShellCompDirectiveNoFileComp
}
