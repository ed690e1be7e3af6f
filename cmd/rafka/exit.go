package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/wire"
)

// The exit codes. Scripts depend on them, so a number never changes its meaning.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitConnect      = 3
	exitUnauthorised = 4
	exitNotFound     = 5
	exitConflict     = 6
	exitTimeout      = 7
	exitPartly       = 8
	exitInterrupted  = 130
	exitUnread       = 141 // what a shell says of a process that SIGPIPE ended
)

// errInterrupted is why a command ended that a signal stopped.
var errInterrupted = errors.New("interrupted")

// failure is an error as it is shown: what happened, and what to do next.
type failure struct {
	exit   int
	name   string // a stable name in capitals
	err    error
	detail string // lines to show below the error, such as the place in a file
	hint   string // one line that says what to do next
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usagef returns a failure for an invalid command line.
func usagef(cmd *cobra.Command, format string, args ...any) *failure {
	return &failure{
		exit: exitUsage, name: "USAGE", err: fmt.Errorf(format, args...),
		hint: cmd.CommandPath() + " --help shows how to use it",
	}
}

// exitOf maps the codes of the broker to exit codes. What is not listed is exitFailed.
var exitOf = map[wire.Code]int{
	wire.CodeUnauthenticated:      exitUnauthorised,
	wire.CodeForbidden:            exitUnauthorised,
	wire.CodeTopicNotFound:        exitNotFound,
	wire.CodePartitionNotFound:    exitNotFound,
	wire.CodeGroupNotFound:        exitNotFound,
	wire.CodeKeyNotFound:          exitNotFound,
	wire.CodeDuplicate:            exitConflict,
	wire.CodeOffsetOutOfRange:     exitNotFound,
	wire.CodeSubscriptionNotFound: exitNotFound,
	wire.CodeTopicDeleted:         exitNotFound,
	wire.CodeTopicExists:          exitConflict,
	wire.CodeFenced:               exitConflict,
	wire.CodeLeaseLost:            exitConflict,
	wire.CodeNotOwner:             exitConflict,
	wire.CodeTimeout:              exitTimeout,
}

// hints say what to do next about a code of the broker. A command may set a better hint.
var hints = map[wire.Code]string{
	wire.CodeUnauthenticated:   "log in with --user and RAFKA_PASSWORD, with RAFKA_TOKEN, with --nkey, or with --tls-cert and --tls-key",
	wire.CodeForbidden:         "log in as a user who may: the broker's configuration has the permissions of its users",
	wire.CodeTopicNotFound:     "rafka topic ls lists the topics; rafka topic create TOPIC creates one",
	wire.CodePartitionNotFound: "rafka topic info TOPIC shows the partitions",
	wire.CodeGroupNotFound:     "rafka group ls lists the groups and queues",
	wire.CodeOffsetOutOfRange:  "rafka topic info TOPIC shows which offsets are stored",
	wire.CodeNotOwner:          "connect to the broker that owns the partition: the one whose --partition is this number",
	wire.CodeTopicExists:       "rafka topic edit TOPIC changes an existing topic",
	wire.CodeStorageFull:       "free space on the broker's disk, or retain less if it stores in memory; then it accepts writes again",
	wire.CodeReadOnly:          "the broker's disk failed: see the broker's log, replace the disk, and restart the broker",
	wire.CodeTooLarge:          "messages may be larger with: rafka topic edit TOPIC --set max_record_bytes=4MiB; other limits are fixed",
	wire.CodeShutdown:          "try again when the broker has restarted",
	wire.CodeBusy:              "try again later, or with less at a time",
}

// explain turns any error into a failure.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*config.FileError](err); ok {
		return &failure{exit: exitUsage, name: "INVALID_CONFIG", err: err, detail: strings.TrimRight(e.Excerpt, "\n")}
	}
	switch code := wire.CodeOf(err); {
	case errors.Is(err, errInterrupted):
		return &failure{exit: exitInterrupted, name: "INTERRUPTED", err: errInterrupted}
	case errors.Is(err, errNoReader):
		return &failure{exit: exitUnread, name: "UNREAD", err: errNoReader}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{exit: exitTimeout, name: "TIMEOUT", err: err, hint: "--timeout waits longer"}
	case code != wire.CodeInternal || errors.Is(err, wire.CodeInternal):
		exit, ok := exitOf[code]
		if !ok {
			exit = exitFailed
		}
		return &failure{exit: exit, name: code.String(), err: err, hint: hints[code]}
	default:
		return &failure{exit: exitFailed, name: "FAILED", err: err}
	}
}

// reportFailure prints a failure on stderr, as JSON when the output is JSON.
func (c *cli) reportFailure(f *failure) {
	if f.exit == exitInterrupted || f.exit == exitUnread || f.err == nil {
		return
	}
	text := strings.Replace(f.err.Error(), f.name+": ", "", 1)   // the name is printed in front
	text = strings.Replace(": "+text, ": client: ", ": ", 1)[2:] // the name of the package means nothing here
	if c.output == "json" || c.output == "jsonl" {
		b, _ := encodeJSON(map[string]any{
			"error": map[string]any{"code": f.name, "message": text, "detail": f.detail, "hint": f.hint, "exit": f.exit},
		}, false) // strings and a number always encode
		_, _ = c.stderr.Write(b)
		return
	}
	fmt.Fprintf(c.stderr, "%s %s: %s\n", c.red("error"), f.name, harmless(text))
	if f.detail != "" {
		fmt.Fprintln(c.stderr, harmless(f.detail))
	}
	if f.hint != "" {
		fmt.Fprintf(c.stderr, "  %s\n", harmless(f.hint))
	}
}
