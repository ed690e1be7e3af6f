package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/server"
)

// stopTimeout bounds an orderly stop, in which connections get a notice and published messages are
// flushed.
const stopTimeout = 30 * time.Second

const serveExample = `  rafka serve                                     data in ./data, clients on 127.0.0.1:4222
  rafka serve --config config/rafka.yml --log-format json
  rafka serve --storage memory --listen 0.0.0.0:4222 --insecure --admin off
  rafka serve --port 4223 --partition 1 --total-partitions 3 --retention-seconds 3600`

func (c *cli) serveCommand() *cobra.Command {
	var path, portFile string
	flags := config.Default()
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "run the broker",
		Example: serveExample,
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := layered(cmd, config.Default(), path)
			if err != nil {
				return err
			}
			again := func() (config.Config, error) { return layered(cmd, config.Default(), path) }
			return c.serve(cmd.Context(), cfg, broker{portFile: portFile, reload: again})
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration file; config/rafka.yml documents its keys")
	cmd.Flags().StringVar(&portFile, "port-file", "", "write the addresses of the client port and the admin port to this file, one on each line")
	bindSettings(cmd.Flags(), &flags)
	return cmd
}

// broker is what differs between serve and dev.
type broker struct {
	portFile string
	reload   func() (config.Config, error) // reads the configuration again
	data     string                        // for the banner: a directory that is deleted on exit
	tips     []string                      // for the banner: commands of rafka
	banner   bool                          // print the banner even without a terminal
}

// serve runs a broker until ctx ends, and stops it in order.
func (c *cli) serve(ctx context.Context, cfg config.Config, b broker) error {
	caught := catchSignals()
	defer caught.release()
	logger := c.newLogger(cfg.Log)
	for _, w := range cfg.Warnings() {
		logger.Warn("configuration", "err", w)
	}
	limitHeap(cfg.Storage.MemoryBytes)
	o := serverOptions(cfg, logger)
	if err := secure(&o, cfg); err != nil {
		return &failure{exit: exitUsage, name: "INVALID_CONFIG", err: err}
	}
	warnOfCertificate(logger, o.TLS.Config, time.Now())
	s, err := server.New(o)
	if err != nil {
		return startFailure(err, cfg)
	}
	if err := s.Start(); err != nil {
		return startFailure(err, cfg)
	}
	addrs := addresses(s)
	if err := writePortFile(b.portFile, addrs); err != nil {
		return errors.Join(err, stop(s, logger))
	}
	if b.banner || c.errTTY {
		c.printBanner(cfg, addrs, b)
	}
	go runtime.GC() // so that the first connections use the memory of what starting left behind, and no new one
	untilEnd(ctx, caught, s, cfg, logger, b.reload)
	return stop(s, logger)
}

func stop(s *server.Server, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	start := time.Now()
	if err := s.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop the broker: %w", err)
	}
	logger.Info("broker stopped", "took", time.Since(start))
	return nil
}

// addresses returns where s listens: for clients, and for admin HTTP if that is on.
func addresses(s *server.Server) []string {
	addrs := []string{s.Addr().String()}
	if a := s.AdminAddr(); a != nil {
		addrs = append(addrs, a.String())
	}
	return addrs
}

// writePortFile writes addrs to path in one step, so that a reader never sees part of it.
func writePortFile(path string, addrs []string) error {
	if path == "" {
		return nil
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(strings.Join(addrs, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write port file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write port file: %w", err)
	}
	return nil
}

func (c *cli) printBanner(cfg config.Config, addrs []string, b broker) {
	c.sayf("  rafka %s", readBuildInfo().Version)
	c.sayf("  an acknowledgement means: %s", promise[cfg.Level().String()])
	if b.data != "" {
		c.sayf("  data     %s (deleted on exit)", b.data)
	}
	c.sayf("  broker   %s", addrs[0])
	if len(addrs) > 1 {
		c.sayf("  metrics  http://%s/metrics", addrs[1])
	}
	rafka := "rafka"
	if addrs[0] != client.DefaultAddr {
		rafka += " -s " + addrs[0]
	}
	for _, tip := range b.tips {
		c.sayf("  try      %s %s", rafka, tip)
	}
}

// promise says, for each durability level, what an acknowledged message survives.
var promise = map[string]string{
	"memory": "in the broker's memory",
	"os":     "written, survives a crash of the broker",
	"disk":   "on disk, survives power loss",
}

// startFailure adds to common reasons why a broker does not start what to do about them.
func startFailure(err error, cfg config.Config) error {
	f := &failure{exit: exitFailed, name: "START_FAILED", err: err}
	_, isNetwork := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.exit = exitConflict
		f.hint = "another program listens there: --listen 127.0.0.1:0 takes a free port, --admin off needs none"
	case isNetwork && errors.Is(err, syscall.EACCES):
		f.hint = "this user may not listen there: --listen and --admin take ports from 1024 on"
	case isNetwork:
		f.hint = "--listen and --admin take an address of this machine, such as 127.0.0.1:4222 or 0.0.0.0:4222"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		f.hint = "the user who runs the broker needs a directory to write to, with all that is in it: see --data"
	case errors.Is(err, syscall.ENOTDIR):
		f.hint = "--data names a directory, which is made if it is missing"
	case errors.Is(err, syscall.EFBIG):
		f.hint = "the system does not let the broker write files of this size: raise the limit (ulimit -f, or LimitFSIZE of a systemd unit)"
	case errors.Is(err, log.ErrLocked):
		f.exit = exitConflict
		f.hint = fmt.Sprintf("another broker uses %s: stop it, or give this one another --data", cfg.Storage.Dir)
	case errors.Is(err, log.ErrVersion):
		f.hint = newerHint
	}
	return f
}
