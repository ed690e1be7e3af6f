package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rafka-mq/rafka/auth"
)

const passwdExample = `  rafka passwd                      asks twice
  openssl rand -base64 24 | tee secret.txt | rafka passwd --algorithm argon2id`

// passwdCommand prints the hash of a password, for the configuration.
func (c *cli) passwdCommand() *cobra.Command {
	var algorithm string
	cmd := &cobra.Command{
		Use:     "passwd",
		Short:   "print the hash of a password, for the configuration",
		Example: passwdExample,
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			hash := map[string]func(string) (string, error){"bcrypt": auth.HashBcrypt, "argon2id": auth.HashArgon2id}[algorithm]
			if hash == nil {
				return usagef(cmd, "%q is not an algorithm: use bcrypt or argon2id", algorithm)
			}
			password, err := c.askPassword(cmd.Context())
			if err != nil {
				return err
			}
			h, err := hash(password)
			if err != nil {
				return fmt.Errorf("hash the password: %w", err)
			}
			if c.asJSON() {
				return c.printJSON(map[string]string{"hash": h})
			}
			_, err = fmt.Fprintln(c.stdout, h)
			return err
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "bcrypt", "bcrypt, which NATS servers accept too, or argon2id")
	return cmd
}

// askPassword reads a line from stdin. On a terminal it does not show the line, and asks twice.
func (c *cli) askPassword(ctx context.Context) (string, error) {
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return c.askTwice(ctx, int(f.Fd()))
	}
	line, err := untilDone(ctx, func() (string, error) { return bufio.NewReader(c.stdin).ReadString('\n') })
	if errors.Is(err, io.EOF) && line == "" {
		return "", errors.New("the standard input is empty: a line with the password is missing")
	}
	if err != nil && line == "" {
		return "", fmt.Errorf("read the password from the standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (c *cli) askTwice(ctx context.Context, fd int) (string, error) {
	if before, err := term.GetState(fd); err == nil {
		defer func() { _ = term.Restore(fd, before) }() // also when a signal comes in between
	}
	var said [2]string
	for i, prompt := range []string{"password: ", "again: "} {
		fmt.Fprint(c.stderr, prompt)
		b, err := untilDone(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
		fmt.Fprintln(c.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		said[i] = string(b)
	}
	if said[0] != said[1] {
		return "", errors.New("the two are not the same")
	}
	return said[0], nil
}
