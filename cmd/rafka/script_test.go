package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary stand in for rafka in the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rafka": main})
}

// readyTimeout bounds how long a script waits for something that must happen.
const readyTimeout = 20 * time.Second

// TestScripts runs testdata/script. Besides the commands of testscript there are
//
//	broker FLAGS...     start a broker on a free port, its data in $WORK/data, and use it from here on
//	ready FILE          wait for a broker's port file and use that broker from here on
//	exits CODE COMMAND  run the command and check the exit code
//	until COMMAND       repeat the command until it succeeds; grep may be one
//	shows PATTERN COMMAND  repeat the command until its output matches
//	signal NAME         send HUP or USR2 to the broker
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			for _, v := range os.Environ() {
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "RAFKA_") {
					e.Setenv(name, "")
				}
			}
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"broker": startBroker, "ready": ready, "exits": exits, "until": until, "shows": shows, "signal": sendSignal,
		},
	})
}

func startBroker(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: broker FLAGS...")
	}
	file := ts.MkAbs("broker.addr")
	cmd := exec.Command("rafka", append([]string{
		"serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data", ts.MkAbs("data"), "--port-file", file,
	}, args...)...)
	log, err := os.Create(ts.MkAbs("broker.log"))
	ts.Check(err)
	cmd.Stderr = log
	cmd.Dir = ts.MkAbs(".")
	ts.Check(cmd.Start())
	ts.Setenv("BROKER_PID", strconv.Itoa(cmd.Process.Pid))
	ts.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = log.Close()
	})
	ready(ts, false, []string{file})
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "USR2": syscall.SIGUSR2}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|USR2")
	}
	pid, err := strconv.Atoi(ts.Getenv("BROKER_PID"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready FILE")
	}
	var b []byte
	wait(ts, "port file "+args[0], func() bool {
		var err error
		b, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil
	})
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	ts.Setenv("RAFKA_SERVER", lines[0])
	if len(lines) > 1 {
		ts.Setenv("ADMIN", lines[1])
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s", got, want, ts.ReadFile("stderr"))
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until COMMAND...")
	}
	wait(ts, strings.Join(args, " "), func() bool { return ts.Exec(args[0], args[1:]...) == nil })
}

func shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: shows PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	wait(ts, args[0], func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout"))
	})
}

// wait repeats done until it returns true, and ends the script when that takes too long.
func wait(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(readyTimeout)
	for !done() {
		if time.Now().After(deadline) {
			ts.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Every command has help with a line about itself, and every example line in it names a command and
// flags that exist.
func TestExamplesInTheHelpExist(t *testing.T) {
	c := newCLI(nil, nil, nil, func(string) (string, bool) { return "", false })
	root := c.rootCommand()
	checkExamples(t, c, root)
}

func checkExamples(t *testing.T, c *cli, cmd *cobra.Command) {
	t.Helper()
	for _, sub := range cmd.Commands() {
		require.True(t, sub.Hidden || sub.Short != "", sub.CommandPath())
		for line := range strings.SplitSeq(sub.Example, "\n") {
			checkExample(t, c, line)
		}
		checkExamples(t, c, sub)
	}
}

func checkExample(t *testing.T, c *cli, line string) {
	t.Helper()
	_, args, ok := strings.Cut(line, "rafka ")
	if !ok {
		return
	}
	args, _, _ = strings.Cut(args, "   ") // an explanation follows
	root := c.rootCommand()
	cmd, rest, err := root.Find(strings.Fields(args))
	require.NoError(t, err, line)
	require.NotEqual(t, root, cmd, line)
	require.NoError(t, cmd.ParseFlags(rest), line)
}

func TestScriptsAreFound(t *testing.T) {
	found, err := filepath.Glob("testdata/script/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, found)
}
