package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/server"
)

func inMemory() config.Config {
	cfg := config.Default()
	cfg.Storage.Type = config.StorageMemory
	cfg.Server.Listen, cfg.Server.Admin = "127.0.0.1:0", "off"
	cfg.Server.LameGrace, cfg.Server.LameDuck = time.Millisecond, time.Millisecond
	return cfg
}

// A SIGUSR2 that comes during a reload, behind another SIGHUP, was lost.
func TestManyHangupsHideNoLameDuck(t *testing.T) {
	cfg := inMemory()
	s, err := server.New(serverOptions(cfg, nil))
	require.NoError(t, err)
	require.NoError(t, s.Start())
	sg := catchSignals()
	defer sg.release()
	reloading, goOn, ended := make(chan bool, 10), make(chan bool), make(chan bool)
	again := func() (config.Config, error) {
		reloading <- true
		<-goOn
		return cfg, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(ended)
		untilEnd(ctx, sg, s, cfg, slog.New(slog.DiscardHandler), again)
	}()
	raise := func(sig syscall.Signal) { require.NoError(t, syscall.Kill(syscall.Getpid(), sig)) }
	raise(syscall.SIGHUP)
	<-reloading
	raise(syscall.SIGHUP)
	require.Eventually(t, func() bool { return len(sg.hangup) == 1 }, readyTimeout, time.Millisecond)
	raise(syscall.SIGUSR2)
	require.Eventually(t, func() bool { return len(sg.lame) == 1 }, readyTimeout, time.Millisecond)
	close(goOn)
	select {
	case <-ended:
	case <-time.After(readyTimeout):
		t.Error("the broker did not become a lame duck")
	}
	require.NoError(t, s.Shutdown(context.Background()))
}

// raiseAt sends SIGHUP to this process when the log says that the broker starts, and that it stops.
type raiseAt struct {
	io.Writer
	raised int
}

func (r *raiseAt) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("broker started")) || bytes.Contains(b, []byte("broker stopping")) {
		r.raised++
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGHUP)
		time.Sleep(10 * time.Millisecond) // it ends the process if nobody catches it
	}
	return len(b), nil
}

// A SIGHUP that comes before the broker is ready, or while it stops, ended the process.
func TestAHangupAtStartAndStopEndsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log := &raiseAt{}
	reloads := 0
	c := &cli{stdout: io.Discard, stderr: log}
	err := c.serve(ctx, inMemory(), broker{reload: func() (config.Config, error) {
		reloads++
		cancel()
		return inMemory(), nil
	}})
	require.NoError(t, err)
	require.Equal(t, 2, log.raised)
	require.Equal(t, 1, reloads)
}

// certificate writes a certificate that is valid from one time to the other, and its key.
func certificate(t *testing.T, cert, key string, from, to time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

func TestACertificateThatNobodyAcceptsIsLogged(t *testing.T) {
	cfg := inMemory()
	dir := t.TempDir()
	cfg.TLS.Cert, cfg.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now := time.Now()
	certificate(t, cfg.TLS.Cert, cfg.TLS.Key, now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	var log bytes.Buffer
	c := &cli{stdout: io.Discard, stderr: &log}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, c.serve(ctx, cfg, broker{}))
	require.Contains(t, log.String(), "has expired")

	log.Reset()
	certificate(t, cfg.TLS.Cert, cfg.TLS.Key, now.Add(-time.Hour), now.Add(24*time.Hour))
	require.NoError(t, c.serve(ctx, cfg, broker{}))
	require.NotContains(t, log.String(), "the certificate in tls.cert")

	log.Reset()
	o := serverOptions(cfg, nil)
	require.NoError(t, secure(&o, cfg))
	s, err := server.New(o)
	require.NoError(t, err)
	certificate(t, cfg.TLS.Cert, cfg.TLS.Key, now.Add(24*time.Hour), now.Add(48*time.Hour))
	reload(s, cfg, slog.New(slog.NewTextHandler(&log, nil)), func() (config.Config, error) { return cfg, nil })
	require.Contains(t, log.String(), "is not valid yet")
}

// A broker without time for TLS greets nobody.
func TestAReloadChangesTheTimeForTLS(t *testing.T) {
	cfg := inMemory()
	dir := t.TempDir()
	cfg.TLS.Cert, cfg.TLS.Key, cfg.TLS.Timeout = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), time.Nanosecond
	certificate(t, cfg.TLS.Cert, cfg.TLS.Key, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	o := serverOptions(cfg, nil)
	require.NoError(t, secure(&o, cfg))
	s, err := server.New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start())
	greeting := func() string {
		conn, err := net.Dial("tcp", s.Addr().String())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return line
	}
	require.Empty(t, greeting())
	fresh := cfg
	fresh.TLS.Timeout = time.Hour
	var log bytes.Buffer
	reload(s, cfg, slog.New(slog.NewTextHandler(&log, nil)), func() (config.Config, error) { return fresh, nil })
	require.Contains(t, greeting(), "INFO {")
	require.NotContains(t, log.String(), "needs a restart")
	require.NoError(t, s.Shutdown(context.Background()))
}

// Every setting either takes effect when the configuration is read again, or the log says that it needs a restart.
func TestAReloadNamesEveryChangeThatNeedsARestart(t *testing.T) {
	for i, s := range new(config.Config).Settings() {
		old, fresh := config.Default(), config.Default()
		require.NoError(t, fresh.Settings()[i].Value.Set(otherValues[s.Key]), s.Key)
		want := []string{s.Key}
		if reloadable[s.Key] {
			want = nil
		}
		require.Equal(t, want, changedKeys(old, fresh))
	}
	require.Len(t, reloadable, 7, "docs/security.md lists them, and a test of each is in this package or in server")
}

func TestAReloadAppliesTheLimitsOfConnections(t *testing.T) {
	cfg := inMemory()
	s, err := server.New(serverOptions(cfg, nil))
	require.NoError(t, err)
	require.NoError(t, s.Start())
	var log bytes.Buffer
	fresh := cfg
	fresh.Limits.Connections, fresh.Limits.PingMax, fresh.Auth.Token = 1, 9, "t"
	reload(s, cfg, slog.New(slog.NewTextHandler(&log, nil)), func() (config.Config, error) { return fresh, nil })
	require.Equal(t, 1, strings.Count(log.String(), "needs a restart"), log.String())
	require.Contains(t, log.String(), "key=limits.ping_max")
	greeting := func() string {
		conn, err := net.Dial("tcp", s.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		r := bufio.NewReader(conn)
		info, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, info, `"auth_required":true`)
		_, err = io.WriteString(conn, "CONNECT {\"auth_token\":\"t\"}\r\n")
		require.NoError(t, err)
		answer, _ := r.ReadString('\n')
		return answer
	}
	require.Equal(t, "+OK\r\n", greeting())
	require.Equal(t, "-ERR 'maximum connections exceeded'\r\n", greeting())
	require.NoError(t, s.Shutdown(context.Background()))
}
