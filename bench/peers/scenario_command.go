package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// commandScenarios are measured with the nats command line tool.
func commandScenarios() (all []scenario) {
	both := []string{"nats", "rafka-nats"}
	for _, size := range commandSizes {
		all = append(all, scenario{
			name: sized("nats bench pub", size), systems: both, tool: "nats",
			run: func(s *server) (outcome, error) { return commandPublish(s, size) },
		})
	}
	for _, n := range [][2]int{{1, 1}, {1, 4}, {4, 4}} {
		all = append(all, scenario{
			name: fmt.Sprintf("nats bench pub/sub %d:%d, 128 B", n[0], n[1]), systems: both, tool: "nats",
			run: func(s *server) (outcome, error) { return commandDeliver(s, n[0], n[1]) },
		})
	}
	return all
}

// commandSizes are the payloads of nats bench pub, in bytes.
var commandSizes = []int{16, 128, 1 << 10}

// How many messages one measurement sends or delivers: at least a second's work.
const (
	commandMessages  = 3_000_000
	commandDelivered = 4_000_000
)

// command runs nats bench and returns the last rate that it reports, in messages per second.
func command(s *server, args ...string) (rate float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.natsTool, append([]string{"--server", s.addr, "--no-context", "bench"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("nats bench %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	found := reported.FindAllStringSubmatch(out.String(), -1)
	if found == nil {
		return 0, fmt.Errorf("nats bench %s reports no rate: %s", strings.Join(args, " "), out.String())
	}
	return strconv.ParseFloat(strings.ReplaceAll(found[len(found)-1][1], ",", ""), 64)
}

// reported matches the rate in the output of nats bench.
var reported = regexp.MustCompile(`stats: ([0-9,]+) msgs/sec`)

func commandArgs(kind string, messages, size, clients int) []string {
	return []string{kind, topicName, "--no-progress", "--msgs", strconv.Itoa(messages), "--size", strconv.Itoa(size), "--clients", strconv.Itoa(clients)}
}

func commandPublish(s *server, size int) (o outcome, err error) {
	var rate float64
	o.figures, err = s.usage(func() (int, error) {
		rate, err = command(s, commandArgs("pub", commandMessages, size, 1)...)
		return commandMessages, err
	})
	if err == nil {
		o.figures["rate"] = rate
	}
	return o, err
}

// commandDeliver measures the rate of all subscribers together, each of which receives every message.
func commandDeliver(s *server, publishers, subscribers int) (o outcome, err error) {
	before, err := s.subscriptions()
	if err != nil {
		return o, err
	}
	n := commandDelivered / subscribers
	var rate float64
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		rate, failed = command(s, commandArgs("sub", n, 128, subscribers)...)
	}()
	err = waitUntil("the server had all subscriptions", func() (bool, error) {
		now, err := s.subscriptions()
		return now-before >= subscribers, err
	})
	if err == nil {
		o.figures, err = s.usage(func() (int, error) {
			_, err := command(s, commandArgs("pub", n, 128, publishers)...)
			<-done
			return n, err
		})
	}
	<-done
	if err := errors.Join(err, failed); err != nil {
		return o, err
	}
	o.figures["rate"] = rate
	return o, nil
}

// subscriptions returns how many subscriptions the server has.
func (s *server) subscriptions() (int, error) {
	resp, err := http.Get("http://" + s.varz + "/varz")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		Subscriptions int `json:"subscriptions"`
	}
	return stats.Subscriptions, json.NewDecoder(resp.Body).Decode(&stats)
}
