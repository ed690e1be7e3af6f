package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// cli is one run of the command line: its streams, and the flags that every command has.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(name string) (string, bool)
	inTTY          bool // a person can answer on stdin
	outTTY, errTTY bool // a person looks at stdout, stderr

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
		inTTY: isTerminal(stdin), outTTY: isTerminal(stdout), errTTY: isTerminal(stderr),
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
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(context.Cause(ctx), errInterrupted) && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	f := explain(err)
	if !c.asJSON() {
		c.output = c.outputAsked(args)
	}
	c.reportFailure(f)
	return f.exit
}

// outputAsked returns the output that args or the environment ask for. A command line that is wrong is not read
// to its end otherwise.
func (c *cli) outputAsked(args []string) string {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.ParseErrorsAllowlist.UnknownFlags = true
	fs.Usage = func() {}
	known, _ := c.env(envName("output"))
	fs.StringVarP(&known, "output", "o", known, "")
	_ = fs.Parse(args) // what is wrong with it was found before
	return known
}

const rootHelp = `Rafka is a message broker: partitioned, durable logs that are read in order by groups or
one message at a time by queues.

  rafka dev                                   start a broker that forgets everything on exit
  rafka pub orders hello --key alice          publish a message
  rafka sub orders --from start               read a topic
  rafka consume orders --queue mailer --exec ./send.sh

Every flag can be set in the environment: --server is RAFKA_SERVER. A flag wins.
Exit codes: 0 ok, 1 failed, 2 usage, 3 cannot connect, 4 not authorised, 5 not found,
6 exists already or conflict, 7 timed out, 8 partly done, 130 interrupted.`

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "rafka",
		Short:             "message broker and its tools",
		Long:              rootHelp,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.ArbitraryArgs,
		RunE:              onlySubcommands,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.prepare(cmd) },
	}
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%v", err)
	})
	c.globalFlags(root.PersistentFlags())
	root.AddCommand(c.commands()...)
	return root
}

func (c *cli) globalFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.server, "server", "s", "127.0.0.1:4222", "broker to talk to, host:port or rafka://host:port, several with commas")
	fs.StringVarP(&c.output, "output", "o", "table", "table, json or jsonl")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait for the broker's answer")
	fs.StringVar(&c.user, "user", "", "user to log in as")
	fs.StringVar(&c.password, "password", "", "password of the user; RAFKA_PASSWORD keeps it out of the process list")
	fs.StringVar(&c.token, "token", "", "token to log in with; RAFKA_TOKEN keeps it out of the process list")
	fs.StringVar(&c.nkey, "nkey", "", "file with the seed of an nkey to log in with")
	fs.StringVar(&c.tls.ca, "tls-ca", "", "PEM file of who signed the broker's certificate; turns TLS on")
	fs.StringVar(&c.tls.cert, "tls-cert", "", "PEM file of a certificate to log in with; turns TLS on")
	fs.StringVar(&c.tls.key, "tls-key", "", "PEM file of its private key")
}

// prepare runs before every command, when its flags are known.
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

// onlySubcommands is the body of a command that does nothing itself.
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

// exactly is the check for a command with n arguments. what names them.
func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }

// between is the check for a command with low to high arguments.
func between(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low {
			return usagef(cmd, "%s is missing", what)
		}
		if len(args) > high {
			return usagef(cmd, "%q is one argument too many", args[high])
		}
		return nil
	}
}
