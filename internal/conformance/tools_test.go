package conformance

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

// tool returns the path in an environment variable, or skips the test.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s is not set: make conformance fetches the tool", variable)
	}
	return path
}

// natsTool runs the nats command line tool against a broker.
type natsTool struct {
	t    *testing.T
	path string
	addr string
}

func (n *natsTool) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.path, append([]string{"--server", n.addr, "--no-context"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+n.t.TempDir(), "XDG_CONFIG_HOME="+n.t.TempDir())
	return cmd
}

func (n *natsTool) run(args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*patience)
	defer cancel()
	out, err := n.command(ctx, args...).CombinedOutput()
	require.NoError(n.t, err, "nats %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// start runs the tool beside the test and returns what waits for its end and output. The exit code does
// not count: that of reply is 1.
func (n *natsTool) start(args ...string) (wait func() string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := n.command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(n.t, cmd.Start())
	n.t.Cleanup(cancel)
	return func() string {
		defer cancel()
		_ = cmd.Wait()
		return out.String()
	}
}

func TestTheNATSTool(t *testing.T) {
	path := tool(t, "RAFKA_NATS_CLI")
	b := broker(t, server.Options{})
	n := &natsTool{t, path, b.Addr}
	listeners := func(want int64) {
		t.Helper()
		require.Eventually(t, func() bool { return b.Server.Stats(time.Now()).Subscriptions == want }, patience, time.Millisecond)
	}

	n.run("rtt")
	require.Contains(t, n.run("server", "check", "connection"), "OK")
	account := n.run("account", "info")
	require.Regexp(t, `Account: \$G`, account)
	require.Contains(t, account, "Expires: never")
	subscriber := n.start("sub", "foo.>", "--count", "2")
	listeners(1)
	n.run("pub", "foo.bar", "hello", "-H", "X:1")
	n.run("pub", "foo.baz", "world")
	out := subscriber()
	require.Contains(t, out, "hello")
	require.Contains(t, out, "X: 1")
	require.Contains(t, out, "world")

	listeners(0)
	responder := n.start("reply", "svc", "answer {{Request}}", "--count", "1")
	listeners(1)
	require.Contains(t, n.run("request", "svc", "hi"), "answer hi")
	responder()
	require.Contains(t, n.run("request", "nobody", "hi"), "No responders")

	listeners(0)
	counter := n.start("bench", "sub", "bench", "--msgs", "20000", "--size", "128", "--no-progress")
	listeners(1)
	require.Contains(t, n.run("bench", "pub", "bench", "--msgs", "20000", "--size", "128", "--no-progress"), "publisher stats")
	require.Contains(t, counter(), "subscriber stats")
}

// The tool finds, asks and watches a service.
func TestTheNATSToolAndAService(t *testing.T) {
	b := broker(t, server.Options{})
	n := &natsTool{t, tool(t, "RAFKA_NATS_CLI"), b.Addr}
	_, err := micro.AddService(connect(t, b), micro.Config{
		Name: "greeter", Version: "1.2.3",
		Endpoint: &micro.EndpointConfig{Subject: "greet", Handler: micro.HandlerFunc(func(r micro.Request) {
			_ = r.Respond([]byte("hello " + string(r.Data())))
		})},
	})
	require.NoError(t, err)
	require.Contains(t, n.run("service", "list"), "greeter")
	require.Contains(t, n.run("service", "info", "greeter"), "1.2.3")
	require.Contains(t, n.run("service", "ping", "greeter"), "rtt=")
	require.Contains(t, n.run("request", "greet", "you"), "hello you")
	require.Contains(t, n.run("service", "stats", "greeter"), "greeter")
}

// Commands for what the broker does not have end with an error, without a wait for an answer.
func TestCommandsOfTheNATSToolThatNeedMore(t *testing.T) {
	b := broker(t, server.Options{})
	n := &natsTool{t, tool(t, "RAFKA_NATS_CLI"), b.Addr}
	for _, command := range []string{
		"stream ls", "consumer ls x", "kv ls", "object ls", "kv put b k v", "stream info x",
		"server ping", "server info", "server list", "server report connections", "account report connections",
	} {
		t.Run(command, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			args := append([]string{"--timeout", "10m"}, strings.Fields(command)...)
			out, err := n.command(ctx, args...).CombinedOutput()
			require.NoError(t, ctx.Err(), "%s", out)
			require.Error(t, err, "%s", out)
		})
	}
}

// script is the program for nats.js: it prints what it saw.
const script = `
import { connect, headers } from "@nats-io/transport-node";
const nc = await connect({ servers: process.env.RAFKA_ADDR, name: "js" });
const seen = [];
const sub = nc.subscribe("js.*", { callback: (err, m) => {
  seen.push(m.subject + "=" + m.string() + (m.headers ? ":" + m.headers.get("A") : ""));
  if (m.reply) m.respond("got " + m.string());
} });
await nc.flush();
const h = headers();
h.append("A", "1");
nc.publish("js.one", "first", { headers: h });
const answer = await nc.request("js.two", "second", { timeout: 10000 });
console.log(answer.string());
try { await nc.request("nobody", "", { timeout: 10000 }); } catch (err) { console.log(err.name + " " + err.message); }
const stored = await nc.request("orders.eu", "kept", { timeout: 10000 });
console.log(stored.string());
console.log(seen.join(" "));
await nc.drain();
console.log("drained");
`

func TestNATSJS(t *testing.T) {
	dir := tool(t, "RAFKA_NATS_JS")
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	b := broker(t, server.Options{})
	c, err := client.Dial(t.Context(), b.Addr, client.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close(t.Context())) }()
	_, err = c.CreateTopic(t.Context(), "orders", client.TopicOptions{Settings: []wire.Setting{{Key: "subjects", Value: "orders.>"}}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--input-type=module", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script)
	cmd.Env = append(os.Environ(), "RAFKA_ADDR="+b.Addr)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 5, "%s", out)
	require.Equal(t, "got second", lines[0])
	require.Contains(t, strings.ToLower(lines[1]), "responders")
	require.Equal(t, `{"topic":"orders","partition":0,"offset":0,"level":"memory"}`, lines[2])
	require.Equal(t, "js.one=first:1 js.two=second", lines[3])
	require.Equal(t, "drained", lines[4])
}
