package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/server"
)

// secure sets the options that depend on users and on certificate files.
func secure(o *server.Options, cfg config.Config) (err error) {
	if o.Auth, err = auth.New(cfg.Auth); err != nil {
		return err
	}
	o.TLS.Config, err = cfg.TLS.LoadTLS()
	return err
}

// warnOfCertificate logs that no client accepts the broker's certificate now. It is a warning only: the clock of
// this machine may be wrong, and a certificate that is valid soon is better than none.
func warnOfCertificate(logger *slog.Logger, cfg *tls.Config, now time.Time) {
	if cfg == nil || len(cfg.Certificates) == 0 || cfg.Certificates[0].Leaf == nil {
		return
	}
	switch leaf := cfg.Certificates[0].Leaf; {
	case now.After(leaf.NotAfter):
		logger.Warn("the certificate in tls.cert has expired: clients refuse it", "not_after", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		logger.Warn("the certificate in tls.cert is not valid yet: clients refuse it", "not_before", leaf.NotBefore)
	}
}

// signals are those that a running broker serves. It catches them from its start to its end, because each of
// them ends a process that does not. Each has a channel of its own: one that finds its channel full is lost,
// which does no harm to a SIGHUP behind another, but must not happen to a SIGUSR2.
type signals struct{ hangup, lame chan os.Signal }

func catchSignals() signals {
	sg := signals{hangup: make(chan os.Signal, 1), lame: make(chan os.Signal, 1)}
	signal.Notify(sg.hangup, syscall.SIGHUP)
	signal.Notify(sg.lame, syscall.SIGUSR2)
	return sg
}

func (sg signals) release() {
	signal.Stop(sg.hangup)
	signal.Stop(sg.lame)
}

// untilEnd serves signals until ctx ends or a lame duck is done: SIGHUP reads the configuration again,
// SIGUSR2 makes the broker a lame duck.
func untilEnd(ctx context.Context, sg signals, s *server.Server, cfg config.Config, logger *slog.Logger, again func() (config.Config, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-sg.lame:
			s.LameDuck(ctx, cfg.Server.LameGrace, cfg.Server.LameDuck)
			return
		case <-sg.hangup:
			reload(s, cfg, logger, again)
		}
	}
}

// reload applies what may change while the broker runs: users, certificates, the time for TLS, the number of
// connections and how fast they may come. A configuration that is not valid changes nothing.
func reload(s *server.Server, cfg config.Config, logger *slog.Logger, again func() (config.Config, error)) {
	start := time.Now()
	fresh, err := again()
	if err == nil {
		var o server.Options
		if err = secure(&o, effective(cfg, fresh)); err == nil {
			err = s.SetTLS(o.TLS.Config)
		}
		if err == nil {
			warnOfCertificate(logger, o.TLS.Config, start)
			s.SetTLSTimeout(fresh.TLS.Timeout)
			s.SetAuth(o.Auth)
			s.SetMaxConnections(fresh.Limits.Connections)
			s.SetMaxConnectionRate(fresh.Limits.ConnectionRate)
		}
	}
	if err != nil {
		logger.Error("configuration not reloaded: everything stays as it was", "err", err)
		return
	}
	if fresh.Auth.Empty() && !cfg.Auth.Empty() { // as when the file was empty for a moment
		logger.Warn("no login is configured any more: everybody may do everything")
	}
	for _, key := range changedKeys(cfg, fresh) {
		logger.Warn("a changed setting needs a restart", "key", key)
	}
	logger.Info("configuration reloaded", "users", len(fresh.Auth.Users), "took", time.Since(start))
}

// effective returns fresh with the old value of what decides about TLS and needs a restart: a broker that does
// not map certificates to users must not begin to demand them.
func effective(old, fresh config.Config) config.Config {
	fresh.TLS.VerifyAndMap = old.TLS.VerifyAndMap
	return fresh
}

// reloadable are the keys that take effect without a restart, when the configuration is read again.
var reloadable = map[string]bool{
	"tls.cert": true, "tls.key": true, "tls.ca": true, "tls.verify": true, "tls.timeout": true,
	"limits.connections": true, "limits.connection_rate": true,
}

// changedKeys returns the keys whose values differ and that take effect only after a restart.
func changedKeys(old, fresh config.Config) (keys []string) {
	was := old.Settings()
	for i, s := range fresh.Settings() {
		if s.Value.String() != was[i].Value.String() && !reloadable[s.Key] {
			keys = append(keys, s.Key)
		}
	}
	return keys
}
