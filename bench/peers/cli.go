package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// Messages of one measurement: a second's work or more.
const (
	pubMessages    = 3_000_000
	pubSubMessages = 4_000_000 // delivered
)

// bench runs nats bench and returns the messages a second that it reports last.
func (t *tools) bench(p *peer, args ...string) (rate float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.cli, append([]string{"--server", p.addr, "--no-context", "bench"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("nats bench %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	found := reported.FindAllStringSubmatch(out.String(), -1)
	if found == nil {
		return 0, fmt.Errorf("nats bench %s reports nothing: %s", strings.Join(args, " "), out.String())
	}
	return strconv.ParseFloat(strings.ReplaceAll(found[len(found)-1][1], ",", ""), 64)
}

var reported = regexp.MustCompile(`stats: ([0-9,]+) msgs/sec`)

func benchPub(size int) func(t *tools, p *peer) (sample, error) {
	return func(t *tools, p *peer) (sample, error) {
		return p.spent(pubMessages, func() (float64, error) {
			return t.bench(p, "pub", "bench", "--no-progress", "--msgs", strconv.Itoa(pubMessages), "--size", strconv.Itoa(size))
		})
	}
}

// benchPubSub returns the rate of all subscribers together, which each get every message.
func benchPubSub(pubs, subs int) func(t *tools, p *peer) (sample, error) {
	return func(t *tools, p *peer) (s sample, err error) {
		before, err := p.subscriptions()
		if err != nil {
			return s, err
		}
		n := pubSubMessages / subs
		common := []string{"bench", "--no-progress", "--msgs", strconv.Itoa(n), "--size", "128", "--clients"}
		type result struct {
			rate float64
			err  error
		}
		done := make(chan result, 1)
		go func() {
			rate, err := t.bench(p, append(append([]string{"sub"}, common...), strconv.Itoa(subs))...)
			done <- result{rate, err}
		}()
		if err := p.subscribed(before, subs); err != nil {
			return s, err
		}
		return p.spent(n, func() (float64, error) {
			if _, err := t.bench(p, append(append([]string{"pub"}, common...), strconv.Itoa(pubs))...); err != nil {
				return 0, err
			}
			r := <-done
			return r.rate, r.err
		})
	}
}
