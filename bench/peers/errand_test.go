package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary a driver, too: errands are sent to the program that sends them.
func TestMain(m *testing.M) {
	drive()
	live()
	os.Exit(m.Run())
}

func TestAnErrandIsRunByAnotherProcess(t *testing.T) {
	e := errand{Scenario: "start-up", System: "redis", Programs: map[string]string{"redis-server": "/no/redis"}, Dir: t.TempDir()}
	_, err := e.send()
	require.ErrorContains(t, err, "/no/redis")
	e.Scenario = "sleep"
	_, err = e.send()
	require.EqualError(t, err, `no scenario has the name "sleep"`)
	e.System = "abacus"
	_, err = e.send()
	require.EqualError(t, err, `no system has the id "abacus"`)
}

func TestAServerThatStaysIsDescribed(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	sys, err := systemNamed("nats")
	require.NoError(t, err)
	s := &server{sys: &sys, dir: "d", addr: "a", admin: "b", varz: "c", cmd: &exec.Cmd{Process: self}}
	sent, err := json.Marshal(errand{Server: s.standing()})
	require.NoError(t, err)
	var got errand
	require.NoError(t, json.NewDecoder(bytes.NewReader(sent)).Decode(&got))
	other, err := got.Server.attach(&sys)
	require.NoError(t, err)
	require.Equal(t, []string{"d", "a", "b", "c"}, []string{other.dir, other.addr, other.admin, other.varz})
	_, err = other.cpu()
	require.NoError(t, err)
	require.Nil(t, (*server)(nil).standing())
}
