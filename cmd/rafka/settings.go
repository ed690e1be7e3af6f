package main

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

// given is a setting that remembers the text it was set to. Two settings may change the same field,
// so the field does not tell what was given for each.
type given struct {
	config.Value
	text string
}

// Set sets the setting and keeps the text.
func (g *given) Set(text string) error {
	g.text = text
	return g.Value.Set(text)
}

// bindSettings makes a flag of every setting of cfg.
func bindSettings(fs *pflag.FlagSet, cfg *config.Config) {
	for _, s := range cfg.Settings() {
		f := fs.VarPF(&given{Value: s.Value}, s.Flag, "", s.Usage)
		if s.Value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	fs.Var(&given{Value: cfg.RetentionSeconds()}, "retention-seconds", "retention-age as a number of seconds")
}

// clientFlags are the shared flags that say how to connect to a broker.
var clientFlags = []string{"server", "timeout", "user", "password", "token", "nkey", "tls-ca", "tls-cert", "tls-key"}

// connectsNowhere hides the flags for connecting to a broker from a command that has no use for them, and refuses them
// when they are typed: the reason says what the command does instead.
func connectsNowhere(cmd *cobra.Command, reason string) *cobra.Command {
	fs := cmd.Flags()
	var hidden []string
	for _, name := range clientFlags {
		if fs.Lookup(name) != nil {
			continue // a broker has files of TLS, too
		}
		shorthand := ""
		if name == "server" {
			shorthand = "s"
		}
		fs.StringP(name, shorthand, "", "") // takes the place of the shared flag
		fs.Lookup(name).Hidden = true
		hidden = append(hidden, name)
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		return refuse(cmd, "commands that connect to a broker; "+reason, hidden...)
	}
	return cmd
}

// refuse fails if one of the flags in names was typed, which is for something else. The environment is for all commands.
func refuse(cmd *cobra.Command, isFor string, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Annotations[fromEnv] == nil {
			return usagef(cmd, "--%s is for %s", name, isFor)
		}
	}
	return nil
}

// layered returns base overlaid by the file at path (if any), then by the environment, then by the
// command line.
func layered(cmd *cobra.Command, base config.Config, path string) (config.Config, error) {
	typed := func(name string) bool {
		f := cmd.Flags().Lookup(name)
		return f.Changed && f.Annotations[fromEnv] == nil
	}
	if typed("listen") && (typed("port") || typed("host")) {
		return base, usagef(cmd, "--listen says host and port already: leave out --host and --port")
	}
	cfg := base
	if path != "" {
		if err := cfg.Load(path); errors.Is(err, os.ErrNotExist) {
			return cfg, &failure{
				exit: exitNotFound, name: "NO_CONFIG", err: err,
				hint: "leave out --config for the defaults, or begin with config/rafka.yml, which explains every setting",
			}
		} else if err != nil {
			return cfg, err
		}
	}
	target := pflag.NewFlagSet("", pflag.ContinueOnError)
	bindSettings(target, &cfg)
	for _, env := range []bool{true, false} {
		if err := overlay(target, cmd.Flags(), env); err != nil {
			return cfg, err
		}
	}
	if err := cfg.Validate(); err != nil {
		f := &failure{exit: exitUsage, name: "INVALID_CONFIG", err: err}
		if errors.Is(err, config.ErrInsecure) {
			f.hint = "configure users (config/rafka.yml shows how), listen on 127.0.0.1, or say --insecure"
		}
		return cfg, f
	}
	return cfg, nil
}

// overlay sets in target what the environment, or the command line, has set in flags.
func overlay(target, flags *pflag.FlagSet, env bool) error {
	var failed error
	flags.Visit(func(f *pflag.Flag) {
		if target.Lookup(f.Name) == nil || (f.Annotations[fromEnv] != nil) != env || failed != nil {
			return
		}
		failed = target.Set(f.Name, f.Value.(*given).text)
	})
	return failed
}

// serverOptions converts cfg to the options of package server.
func serverOptions(cfg config.Config, logger *slog.Logger) server.Options {
	host, _ := os.Hostname()
	o := server.Options{
		Listen:            cfg.ListenAddr(),
		Admin:             cfg.Server.Admin,
		Topics:            topicDefaults(cfg),
		NoAutoCreate:      !cfg.Broker.AutoCreateTopics,
		Partitions:        cfg.Broker.DefaultTopicPartitions,
		OwnPartition:      cfg.Broker.Partition,
		TotalPartitions:   cfg.Broker.TotalPartitions,
		MemoryBytes:       cfg.Storage.MemoryBytes,
		Loops:             cfg.Broker.Loops,
		MaxConnections:    cfg.Limits.Connections,
		MaxConnectionRate: cfg.Limits.ConnectionRate,
		MaxInFlightBytes:  int(cfg.Limits.InFlightBytes),
		MaxPendingBytes:   int(cfg.Limits.PendingBytes),
		MaxUnreadBytes:    int(cfg.Limits.UnreadBytes),
		IdleTimeout:       cfg.Limits.IdleTimeout,
		HandshakeTimeout:  cfg.Limits.HandshakeTimeout,
		SlowTimeout:       cfg.Limits.SlowTimeout,
		AuthTimeout:       cfg.Limits.AuthTimeout,
		MaxSubscriptions:  cfg.Limits.Subscriptions,
		MaxScheduled:      cfg.Limits.Scheduled,
		MaxControlLine:    int(cfg.Limits.ControlLine),
		PingInterval:      cfg.Limits.PingInterval,
		PingMax:           cfg.Limits.PingMax,
		NoHeaders:         !cfg.Server.Headers,
		Advertise:         cfg.Server.Advertise,
		TLS:               server.TLSOptions{Mixed: cfg.TLS.AllowNonTLS, MapUsers: cfg.TLS.VerifyAndMap, Timeout: cfg.TLS.Timeout},
		Name:              cmp.Or(cfg.Server.Name, host),
		Version:           readBuildInfo().Version,
		Logger:            logger,
	}
	o.TLS.First, o.TLS.Fallback = cfg.TLS.First()
	if cfg.Storage.Type == config.StorageFile {
		o.Dir = cfg.Storage.Dir
	}
	return o
}

// topicDefaults returns the settings of topics that do not set their own.
func topicDefaults(cfg config.Config) []wire.Setting {
	return []wire.Setting{
		{Key: "durability", Value: cfg.Level().String()},
		{Key: "hash", Value: cfg.KeyHash()},
		{Key: "max_record_bytes", Value: strconv.FormatInt(cfg.Limits.RecordBytes, 10)},
		{Key: "retention", Value: cfg.Retention.Age.String()},
		{Key: "retention_bytes", Value: strconv.FormatInt(cfg.Retention.Bytes, 10)},
		{Key: "retention_count", Value: strconv.FormatInt(cfg.Retention.Count, 10)},
		{Key: "segment_bytes", Value: strconv.FormatInt(cfg.Storage.SegmentBytes, 10)},
	}
}

// newLogger writes what cfg asks for to stderr.
func (c *cli) newLogger(cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // the setting accepts only names of levels
	o := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(c.stderr, o))
	}
	return slog.New(slog.NewTextHandler(c.stderr, o))
}
