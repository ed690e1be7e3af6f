package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// exitRetry is the exit code, EX_TEMPFAIL, with which a command asks for its message again later.
const exitRetry = 75

// commandGrace is how long a command may go on after SIGINT when the run is stopped.
const commandGrace = 10 * time.Second

// runCommand runs command for m. It turns the exit code into the result of a handler.
func (c *cli) runCommand(ctx context.Context, command string, m *client.Message) error {
	start := time.Now()
	cmd := c.command(ctx, command, m)
	cmd.Stdout = c.stdout
	cmd.Env = append(cmd.Env,
		"RAFKA_TOPIC="+m.Topic,
		"RAFKA_PARTITION="+strconv.Itoa(m.Partition),
		"RAFKA_OFFSET="+strconv.FormatUint(m.Offset, 10),
		"RAFKA_ATTEMPT="+strconv.Itoa(m.Attempt),
	)
	err := cmd.Run()
	killGroup(ctx, cmd)
	took := time.Since(start).Round(time.Millisecond)
	place := fmt.Sprintf("%s/%d@%d", m.Topic, m.Partition, m.Offset)
	if err == nil {
		c.sayf("%s ok %s", place, took)
		return nil
	}
	if ctx.Err() != nil {
		c.sayf("%s interrupted %s", place, took)
		return ctx.Err()
	}
	// A command need not read all of its stdin.
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == exitRetry {
		c.sayf("%s later %s (attempt %d)", place, took, m.Attempt)
		return client.RetryAfter(-1, err)
	}
	c.sayf("%s failed %s (attempt %d): %v", place, took, m.Attempt, err)
	return err
}

// command prepares a user's command for a message.
func (c *cli) command(ctx context.Context, command string, m *client.Message) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(m.Value), c.stderr
	cmd.Env = append(os.Environ(),
		"RAFKA_SUBJECT="+m.Subject,
		"RAFKA_KEY="+string(bytes.ReplaceAll(m.Key, []byte{0}, nil)), // a variable cannot hold a zero byte
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal has to reach what sh runs, not sh alone
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = commandGrace
	return cmd
}

// killGroup ends what is left of a command that was interrupted: another worker gets its message.
func killGroup(ctx context.Context, cmd *exec.Cmd) {
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // most often nothing is left
	}
}

// commandOutput runs command for m and returns its output without the last line end.
func (c *cli) commandOutput(ctx context.Context, command string, m *client.Message) ([]byte, error) {
	cmd := c.command(ctx, command, m)
	out, err := cmd.Output()
	killGroup(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("the command failed: %w", err)
	}
	return bytes.TrimSuffix(out, []byte("\n")), nil
}
