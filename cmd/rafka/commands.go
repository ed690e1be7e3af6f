package main

import "github.com/spf13/cobra"

// commands returns all commands, in the order of the help. Cobra adds completion and help.
func (c *cli) commands() []*cobra.Command {
	const readsFiles = "this one reads files"
	return []*cobra.Command{
		connectsNowhere(c.serveCommand(), "logins are in the configuration file"),
		connectsNowhere(c.devCommand(), "this one is a broker, which lets everybody in"),
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
		connectsNowhere(c.inspectCommand(), readsFiles),
		connectsNowhere(c.verifyCommand(), readsFiles),
		connectsNowhere(c.passwdCommand(), "this one only makes a hash"),
		connectsNowhere(c.versionCommand(), "this one speaks only of itself"),
	}
}
