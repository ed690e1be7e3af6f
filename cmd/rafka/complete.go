package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

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

func (c *cli) complete(cmd *cobra.Command, args []string, names func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || c.flagsFromEnv(cmd) != nil {
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
	return found, cobra.ShellCompDirectiveNoFileComp
}
