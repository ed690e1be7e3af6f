package main

import "github.com/spf13/cobra"

// commands returns all commands, in the order of the help. Cobra adds completion and help.
func (c *cli) commands() []*cobra.Command {
	return []*cobra.Command{
		c.serveCommand(),
		c.devCommand(),
		c.pubCommand(),
		c.subCommand(),
		c.getCommand(),
		c.consumeCommand(),
		c.reqCommand(),
		c.replyCommand(),
		c.topicCommand(),
		c.groupCommand(),
		c.dlqCommand(),
		c.schedCommand(),
		c.checkCommand(),
		c.benchCommand(),
		c.inspectCommand(),
		c.verifyCommand(),
		c.passwdCommand(),
		c.versionCommand(),
	}
}
