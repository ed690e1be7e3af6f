package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/rafka-mq/rafka/client"
)

// cli is one run of the command line: its streams, and the flags that all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(name string) (string, bool)
	inTTY          bool    // stdin is a terminal, so a person can answer
	outTTY, errTTY bool    // stdout, stderr are terminals
	printed        watched // stdout, for cobra: help, versions and completions
	unknown        error   // help was asked for a command that does not exist

	server   string
	output   string
	timeout  time.Duration
	user     string
	password string
	token    string
	nkey     string
	tls      tlsFiles
}

func newCLI(stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) *cli {
	return &cli{
		stdin: stdin, stdout: stdout, stderr: stderr, env: env,
		inTTY: isTerminal(stdin), outTTY: isTerminal(stdout), errTTY: isTerminal(stderr), printed: watched{Writer: stdout},
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// run carries out the command in args and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.rootCommand()
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		c.completeValues(root) // only then: to go through all flags takes longer than many commands
	}
	err := cmp.Or(root.ExecuteContext(ctx), c.unknown, c.printed.err)
	if err == nil {
		return exitOK
	}
	interrupted := errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted)
	if errors.Is(context.Cause(ctx), errInterrupted) && interrupted {
		err = errInterrupted // rather than what else it may hold
	}
	f := explain(err)
	if !c.asJSON() {
		c.output = c.outputAsked(args)
	}
	c.reportFailure(f)
	return f.exit
}

// watched keeps the first error of a writer: cobra ignores it.
type watched struct {
	io.Writer
	err error
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.err = cmp.Or(w.err, err)
	return n, err
}

// outputAsked returns the output format that args or the environment ask for, when args have an
// error: the parser then stops before it has read all flags.
func (c *cli) outputAsked(args []string) string {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.ParseErrorsAllowlist.UnknownFlags = true
	fs.Usage = func() {}
	known, _ := c.env(envName("output"))
	fs.StringVarP(&known, "output", "o", known, "")
	_ = fs.Parse(args) // the error is known already
	return known
}

const rootHelp = `Rafka is a message broker: partitioned, durable logs that are read in order by groups or
one message at a time by queues.

  rafka dev                                   start a broker that deletes its data on exit
  rafka pub orders hello --key alice          publish a message
  rafka sub orders --from start               read a topic
  rafka consume orders --queue mailer --exec ./send.sh

Every flag can also be set in the environment: RAFKA_SERVER sets --server. A flag overrides it.
Exit codes: 0 ok, 1 failed, 2 usage, 3 cannot connect, 4 not authorised, 5 not found,
6 exists already or conflict, 7 timed out, 8 partly done, 130 interrupted.`

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "rafka",
		Short:             "message broker and its tools",
		Version:           readBuildInfo().Version,
		Long:              rootHelp,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.ArbitraryArgs,
		RunE:              onlySubcommands,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.prepare(cmd) },
	}
	root.SetVersionTemplate("rafka {{.Version}}\n")
	root.SetIn(c.stdin)
	root.SetOut(&c.printed)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%v", err)
	})
	c.globalFlags(root.PersistentFlags())
	root.AddCommand(c.commands()...)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		mendCobra(cmd)
	}
	root.InitDefaultVersionFlag()
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if rest := cmd.Flags().Args(); len(rest) > 0 && cmd.HasSubCommands() { // cobra shows the help of its parent
			c.unknown = onlySubcommands(cmd, rest)
			return
		}
		cmd.InitDefaultHelpFlag()
		plainFlags(cmd)
		help(cmd, args)
	})
	return root
}

// mendCobra changes commands that cobra makes: they succeed whatever their arguments are.
func mendCobra(cmd *cobra.Command) {
	switch cmd.Name() {
	case "completion":
		cmd.Short = "print a script that completes commands in a shell"
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, onlySubcommands
		for _, shell := range cmd.Commands() {
			shell.Args = exactly(0, "")
		}
	case "help":
		cmd.Short = "show the help of a command"
		cmd.Run, cmd.RunE = nil, func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) == 0 {
				return cmp.Or(err, of.Help())
			}
			return onlySubcommands(of, rest)
		}
	}
}

// plainBool is a flag that the help shows as --name instead of --name[=true|false].
type plainBool struct{ pflag.Value }

// plainFlags makes every boolean flag of cmd a plainBool.
func plainFlags(cmd *cobra.Command) {
	plain := func(f *pflag.Flag) {
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			f.Value = plainBool{f.Value}
		}
	}
	cmd.Flags().VisitAll(plain)
	cmd.InheritedFlags().VisitAll(plain)
}

func (c *cli) globalFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.server, "server", "s", client.DefaultAddr, "broker: host:port or rafka://host:port; separate several with commas")
	fs.StringVarP(&c.output, "output", "o", "table", "output format: table, json or jsonl")
	durationVar(fs, &c.timeout, "timeout", 10*time.Second, "how long to wait for an answer of the broker")
	fs.StringVar(&c.user, "user", "", "user to log in as")
	fs.StringVar(&c.password, "password", "", "password of the user; set RAFKA_PASSWORD instead to keep it out of the process list")
	fs.StringVar(&c.token, "token", "", "token to log in with; set RAFKA_TOKEN instead to keep it out of the process list")
	fs.StringVar(&c.nkey, "nkey", "", "file that holds the seed of the nkey to log in with")
	fs.StringVar(&c.tls.ca, "tls-ca", "", "PEM file of the authority that signed the broker's certificate; turns TLS on")
	fs.StringVar(&c.tls.cert, "tls-cert", "", "PEM file of a certificate to log in with; turns TLS on")
	fs.StringVar(&c.tls.key, "tls-key", "", "PEM file of the private key of --tls-cert")
}

// prepare runs before every command, after its flags are parsed.
func (c *cli) prepare(cmd *cobra.Command) error {
	if err := c.flagsFromEnv(cmd); err != nil {
		return err
	}
	known := map[string]bool{"table": true, "json": true, "jsonl": true, "raw": cmd.Annotations["raw"] != ""}
	if !known[c.output] {
		return usagef(cmd, "output %q is not known here: use table, json or jsonl", c.output)
	}
	if c.timeout <= 0 {
		return usagef(cmd, "timeout %v is not positive", c.timeout)
	}
	return nil
}

// positive checks that of the flags in names those that were given are numbers or durations above 0: zero, which means
// the default in options, would not do what it says.
func positive(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		value := f.Value.String()
		n, err := strconv.ParseFloat(value, 64)
		if d, _ := time.ParseDuration(value); err != nil {
			n = float64(d)
		}
		if !(n > 0) { // not a number is not positive
			return usagef(cmd, "--%s %s is not above 0; leave it out for the default", name, value)
		}
	}
	return nil
}

// partitionFlag adds the flag --partition. Without it p is client.AllPartitions, which the help does not show.
func partitionFlag(fs *pflag.FlagSet, p *int, usage string) {
	fs.IntVarP(p, "partition", "p", client.AllPartitions, usage)
	fs.Lookup("partition").DefValue = "0"
}

// onlySubcommands is the body of a command that only has subcommands.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	f := usagef(cmd, "%q is not a command of %s", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		f.hint = "did you mean: " + cmd.CommandPath() + " " + near[0] + "?"
	}
	return f
}

// exactly checks that a command gets n arguments, which what names.
func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }

// between checks that a command gets low to high arguments, which what names.
func between(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low {
			return usagef(cmd, "%s is missing", what)
		}
		if len(args) > high {
			f := usagef(cmd, "%q is one argument too many", args[high])
			if args[high] == "true" || args[high] == "false" {
				f.hint = "a flag that is true or false takes its value behind =, as in --flag=" + args[high]
			}
			return f
		}
		return nil
	}
}
