package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

// layers returns what rafka serve would run with, given a file, an environment and a command line.
func layers(t *testing.T, yml string, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	if yml != "" {
		path := filepath.Join(t.TempDir(), "rafka.yml")
		require.NoError(t, os.WriteFile(path, []byte(yml), 0o600))
		args = append(args, "--config", path)
	}
	c := newCLI(nil, nil, nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	cmd := c.serveCommand()
	global := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.globalFlags(global)
	cmd.Flags().AddFlagSet(global)
	if err := cmd.ParseFlags(args); err != nil {
		return config.Config{}, usagef(cmd, "%v", err)
	}
	if err := c.prepare(cmd); err != nil {
		return config.Config{}, err
	}
	return layered(cmd, config.Default(), cmd.Flags().Lookup("config").Value.String())
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefaults(t *testing.T) {
	yml := "server:\n  admin: 127.0.0.1:1\nstorage:\n  dir: from-file\nlog:\n  level: debug\n"
	env := map[string]string{"RAFKA_ADMIN": "127.0.0.1:2", "RAFKA_DATA": "from-env", "RAFKA_AUTO_CREATE_TOPICS": "false"}
	got, err := layers(t, yml, env, "--admin", "off")
	require.NoError(t, err)

	want := config.Default()
	want.Server.Admin = "off"
	want.Storage.Dir = "from-env"
	want.Log.Level = "debug"
	want.Broker.AutoCreateTopics = false
	require.Equal(t, want, got)
}

func TestAddressesFromSeveralSources(t *testing.T) {
	f := func(want, yml string, env map[string]string, args ...string) {
		t.Helper()
		got, err := layers(t, yml, env, args...)
		require.NoError(t, err)
		require.Equal(t, want, got.ListenAddr())
	}
	f("127.0.0.1:4222", "", nil)
	f("127.0.0.1:0", "", nil, "--port", "0")
	f("0.0.0.0:4222", "", nil, "--host", "0.0.0.0", "--insecure")
	f("a:1", "server:\n  port: 9\n", nil, "--listen", "a:1", "--insecure")
	f("a:2", "server:\n  listen: a:1\n", nil, "--port", "2", "--insecure")
	f("b:1", "server:\n  listen: a:1\n", nil, "--host", "b", "--insecure")
	f("a:2", "", map[string]string{"RAFKA_LISTEN": "a:1"}, "--port", "2", "--insecure")
	f("a:1", "", map[string]string{"RAFKA_PORT": "2"}, "--listen", "a:1", "--insecure")
	f("127.0.0.1:4222", "", map[string]string{"RAFKA_PORT": "tcp://10.0.0.1:4222"})
}

func TestFlagsOfTheFirstRafka(t *testing.T) {
	got, err := layers(t, "", nil, "--port", "50051", "--partition", "rafka-broker-1", "--total-partitions", "3", "--retention-seconds", "10")
	require.NoError(t, err)
	o := serverOptions(got, nil)
	require.Equal(t, "127.0.0.1:50051", o.Listen)
	require.Equal(t, 1, o.OwnPartition)
	require.Equal(t, 3, o.TotalPartitions)
	require.Contains(t, o.Topics, wire.Setting{Key: "retention", Value: "10s"})
	require.Contains(t, o.Topics, wire.Setting{Key: "hash", Value: "sum"})
}

func TestRefusedSettings(t *testing.T) {
	f := func(want string, env map[string]string, args ...string) {
		t.Helper()
		_, err := layers(t, "", env, args...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, explain(err).exit)
	}
	f("not a whole number", nil, "--port", "x")
	f("outside 0 to 65535", nil, "--port", "65536")
	f("RAFKA_PORT", map[string]string{"RAFKA_PORT": "x"})
	f("says host and port already", nil, "--listen", "a:1", "--port", "2")
	f("partitions are 0 to 2", nil, "--partition", "3", "--total-partitions", "3")
	f("needs files", nil, "--storage", "memory", "--durability", "disk")
	f("is not one of", nil, "--storage", "tape")
	f("is not known here", nil, "-o", "raw")
	f("not positive", nil, "--timeout", "0s")
}

// otherValues are values of settings that are not the defaults.
var otherValues = map[string]string{
	"server.host": "::1", "server.port": "1", "server.listen": "a:1", "server.admin": "off", "server.name": "n",
	"log.level": "error", "log.format": "json",
	"broker.replication_factor": "2", "broker.default_topic_partitions": "2", "broker.auto_create_topics": "false",
	"broker.hash": "murmur2", "broker.loops": "3", "broker.partition": "1", "broker.total_partitions": "2",
	"storage.type": "in_memory", "storage.dir": "d", "storage.durability": "os", "storage.segment_bytes": "8MiB",
	"storage.memory_bytes": "1GiB",
	"retention.age":        "1h", "retention.bytes": "1GiB", "retention.count": "5",
	"limits.connections": "5", "limits.connection_rate": "5", "limits.record_bytes": "1KiB", "limits.in_flight_bytes": "1MiB",
	"limits.pending_bytes": "1MiB", "limits.unread_bytes": "2MiB", "limits.idle_timeout": "1h", "limits.handshake_timeout": "1s", "limits.slow_timeout": "1s",
	"limits.auth_timeout": "5s", "limits.control_line": "1KiB", "limits.subscriptions": "9", "limits.scheduled": "9", "limits.ping_interval": "5s",
	"limits.ping_max": "9", "server.client_advertise": "a:1", "server.headers": "false",
	"tls.verify_and_map": "true", "tls.handshake_first": "true", "tls.allow_non_tls": "true", "tls.timeout": "9s",
	"server.insecure": "true", "server.lame_duck_duration": "9s", "server.lame_duck_grace_period": "9s",
	"tls.cert": "c", "tls.key": "k", "tls.ca": "a", "tls.verify": "true",
}

// Every key of the file changes what the server or the logger is told.
func TestEveryKeyReachesTheServer(t *testing.T) {
	c := newCLI(nil, nil, &bytes.Buffer{}, func(string) (string, bool) { return "", false })
	type told struct {
		options  server.Options
		logger   any
		warnings []string
	}
	tell := func(cfg config.Config) told {
		return told{serverOptions(cfg, nil), c.newLogger(cfg.Log).Handler(), cfg.Warnings()}
	}
	plain := config.Default()
	elsewhere := []string{ // tested with a broker that runs
		"server.insecure", "server.lame_duck_duration", "server.lame_duck_grace_period",
		"tls.cert", "tls.key", "tls.ca", "tls.verify",
	}
	for i, s := range plain.Settings() {
		if slices.Contains(elsewhere, s.Key) {
			continue
		}
		cfg := config.Default()
		require.Contains(t, otherValues, s.Key)
		require.NoError(t, cfg.Settings()[i].Value.Set(otherValues[s.Key]))
		require.NotEqual(t, tell(config.Default()), tell(cfg), "%s changes nothing", s.Key)
	}
}

// The broker must accept the settings of topics that the configuration can make.
func TestTheBrokerAcceptsTheTopicDefaults(t *testing.T) {
	cfg := config.Default()
	cfg.Storage.Type = config.StorageMemory
	cfg.Server.Listen, cfg.Server.Admin = "127.0.0.1:0", "off"
	cfg.Retention = config.Retention{Age: 90 * time.Minute, Bytes: 1 << 30, Count: 10}
	cfg.Broker.Hash = "murmur2"
	s, err := server.New(serverOptions(cfg, nil))
	require.NoError(t, err)
	require.NoError(t, s.Start())
	require.NoError(t, s.Shutdown(t.Context()))
}

// A broker that does not map certificates to users would refuse everybody if it began to demand them.
func TestAReloadAppliesNothingOfWhatNeedsARestart(t *testing.T) {
	var old, fresh config.Config
	fresh.TLS.VerifyAndMap, fresh.TLS.Verify, fresh.TLS.Cert = true, true, "new.pem"
	require.Equal(t, []string{"tls.verify_and_map"}, changedKeys(old, fresh))
	got := effective(old, fresh)
	require.False(t, got.TLS.VerifyAndMap)
	require.True(t, got.TLS.Verify)
	require.Equal(t, "new.pem", got.TLS.Cert)
	require.True(t, effective(fresh, old).TLS.VerifyAndMap)
}
