package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/wire"
)

func TestExitCodes(t *testing.T) {
	f := func(err error, exit int, name string) {
		t.Helper()
		got := explain(err)
		require.Equal(t, exit, got.exit, "%v", err)
		require.Equal(t, name, got.name)
		require.Equal(t, exit, explain(fmt.Errorf("wrapped: %w", err)).exit)
	}
	f(errors.New("x"), 1, "FAILED")
	f(wire.Errorf(wire.CodeInternal, "x"), 1, "INTERNAL")
	f(wire.CodeStorageFull, 1, "STORAGE_FULL")
	f(&config.FileError{Path: "a", Reason: "b"}, 2, "INVALID_CONFIG")
	f(&failure{exit: 3, name: "CANNOT_CONNECT", err: errors.New("x")}, 3, "CANNOT_CONNECT")
	f(wire.CodeUnauthenticated, 4, "UNAUTHENTICATED")
	f(wire.CodeForbidden, 4, "FORBIDDEN")
	f(wire.Errorf(wire.CodeTopicNotFound, "x"), 5, "TOPIC_NOT_FOUND")
	f(wire.CodeGroupNotFound, 5, "GROUP_NOT_FOUND")
	f(wire.CodeTopicExists, 6, "TOPIC_EXISTS")
	f(wire.CodeNotOwner, 6, "NOT_OWNER")
	f(wire.CodeTimeout, 7, "TIMEOUT")
	f(context.DeadlineExceeded, 7, "TIMEOUT")
	f(errInterrupted, 130, "INTERRUPTED")
}

func TestAConnectionThatFailsIsExplained(t *testing.T) {
	f := func(err error, hint string) {
		t.Helper()
		got := noConnection("host:1", fmt.Errorf("connect to host:1: %w", err))
		require.Equal(t, exitConnect, got.exit)
		require.ErrorIs(t, got, err)
		require.Contains(t, got.hint, hint)
	}
	require.EqualError(t, noConnection("host:1", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), "no broker answers at host:1: connection refused")
	f(context.DeadlineExceeded, "rafka dev")
	f(client.ErrProtocol, "is no broker")
	f(tls.RecordHeaderError{Msg: "first record"}, "without TLS")
	f(wire.Errorf(wire.CodeTLSRequired, "x"), "rafkas://")
	f(wire.Errorf(wire.CodeLimit, "x"), "max_connections")
	f(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, "--tls-ca")
	f(&net.OpError{Op: "remote error", Err: errors.New("certificate required")}, "--tls-cert")
}

func TestHintsBelongToCodesThatExist(t *testing.T) {
	for code, hint := range hints {
		require.NotContains(t, code.String(), "CODE_", hint)
	}
	for code := range exitOf {
		require.NotContains(t, code.String(), "CODE_")
	}
}

func TestFailuresForPeopleAndPrograms(t *testing.T) {
	f := &failure{exit: 5, name: "TOPIC_NOT_FOUND", err: wire.Errorf(wire.CodeTopicNotFound, `no "x"`), detail: "> here", hint: "try y"}
	run := func(output string) string {
		var b bytes.Buffer
		c := newCLI(nil, nil, &b, func(string) (string, bool) { return "", false })
		c.output = output
		c.reportFailure(f)
		return b.String()
	}
	require.Equal(t, "error TOPIC_NOT_FOUND: no \"x\"\n> here\n  try y\n", run("table"))

	var got map[string]map[string]any
	require.NoError(t, json.Unmarshal([]byte(run("json")), &got))
	require.Equal(t, map[string]map[string]any{"error": {
		"code": "TOPIC_NOT_FOUND", "message": `no "x"`, "detail": "> here", "hint": "try y", "exit": 5.0,
	}}, got)
}

func TestInterruptsAndEmptyFailuresSayNothing(t *testing.T) {
	var b bytes.Buffer
	c := newCLI(nil, nil, &b, func(string) (string, bool) { return "", false })
	c.reportFailure(explain(errInterrupted))
	c.reportFailure(&failure{exit: 2})
	require.Empty(t, b.String())
}

// A broker that cannot start says whether that is because of its directory or of its address.
func TestStartFailuresSayWhatToDo(t *testing.T) {
	hint := func(err error) string {
		return explain(startFailure(fmt.Errorf("start: %w", err), config.Default())).hint
	}
	directory := func(err error) error { return &os.PathError{Op: "mkdir", Path: "data", Err: err} }
	require.Contains(t, hint(directory(syscall.EACCES)), "--data")
	require.Contains(t, hint(directory(syscall.EROFS)), "--data")
	require.Contains(t, hint(directory(syscall.ENOTDIR)), "--data names a directory")
	address := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", err)}
	}
	require.Contains(t, hint(address(syscall.EACCES)), "ports from 1024 on")
	require.Contains(t, hint(address(syscall.EADDRNOTAVAIL)), "an address of this machine")
	require.Contains(t, hint(address(syscall.EADDRINUSE)), "another program listens there")
	require.Contains(t, hint(&net.OpError{Op: "listen", Err: &net.DNSError{}}), "an address of this machine")
	require.Empty(t, hint(directory(syscall.EIO)))
}
