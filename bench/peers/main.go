// Command peers measures a Rafka broker and nats-server with the same NATS clients: the nats command
// line tool and nats.go. Both run in turn, as processes of their own that are started anew for every
// measurement, and medians of the rounds are compared.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// tools are the programs under test and the one that measures.
type tools struct{ rafka, nats, cli string }

// scenario is one figure.
type scenario struct {
	name   string
	unit   string
	target string // what the ratio should be, as in ">= 1.2" or "<= 0.9"
	run    func(t *tools, p *peer) (sample, error)
}

// sample is one measurement.
type sample struct {
	value float64
	cpu   float64 // of the server, microseconds per message that it received; 0 when it says nothing
}

func scenarios() []scenario {
	var list []scenario
	for _, size := range []int{16, 128, 1024} {
		list = append(list, scenario{
			name: fmt.Sprintf("nats bench pub, %d B", size), unit: "msg/s", target: ">= 1.2", run: benchPub(size),
		})
	}
	for _, n := range [][2]int{{1, 1}, {1, 4}, {4, 4}} {
		list = append(list, scenario{
			name: fmt.Sprintf("nats bench pub/sub %d:%d, 128 B", n[0], n[1]), unit: "msg/s", target: ">= 1.3", run: benchPubSub(n[0], n[1]),
		})
	}
	return append(
		list,
		scenario{name: "request/reply p50, one in flight", unit: "us", target: "<= 0.9", run: roundTrip(0.5)},
		scenario{name: "request/reply p99, one in flight", unit: "us", target: "<= 0.9", run: roundTrip(0.99)},
		scenario{name: "publish, 10,000 new subjects a second", unit: "msg/s", target: ">= 2", run: newSubjects},
		scenario{name: "publish beside subscription churn", unit: "msg/s", target: ">= 2", run: churn},
		scenario{name: "memory of an idle connection", unit: "KB", target: "<= 0.3", run: idleConnections},
		scenario{name: "memory of a subscription, of a million", unit: "B", target: "", run: subscriptions},
	)
}

func main() {
	var t tools
	flag.StringVar(&t.rafka, "rafka", "rafka", "the broker")
	flag.StringVar(&t.nats, "nats-server", "nats-server", "its peer")
	flag.StringVar(&t.cli, "nats", "nats", "the command line tool that measures")
	rounds := flag.Int("rounds", 5, "measurements of each, in turn")
	only := flag.String("only", "", "a regular expression for the names of the figures to measure")
	flag.Parse()
	if err := compare(&t, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func compare(t *tools, rounds int, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if rounds < 1 {
		return errors.New("a round at least")
	}
	fmt.Println("| figure | nats-server | rafka | unit | ratio | target | server CPU, us/msg: nats-server | rafka |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, s := range scenarios() {
		if !wanted.MatchString(s.name) {
			continue
		}
		theirs, ours, err := s.measure(t, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("| %s | %s | %s | %s | %.2f | %s | %s | %s |\n", s.name, figure(theirs.value), figure(ours.value), s.unit,
			ours.value/theirs.value, s.target, cpu(theirs.cpu), cpu(ours.cpu))
	}
	return nil
}

// measure returns the medians of both servers.
func (s *scenario) measure(t *tools, rounds int) (theirs, ours sample, err error) {
	var all [2][]sample
	for range rounds {
		for i, start := range []func(*tools) (*peer, error){startNATS, startRafka} {
			p, err := start(t)
			if err != nil {
				return theirs, ours, err
			}
			got, err := s.run(t, p)
			if err := errors.Join(err, p.stop()); err != nil {
				return theirs, ours, fmt.Errorf("%s: %w", p.name, err)
			}
			all[i] = append(all[i], got)
		}
	}
	return median(all[0]), median(all[1]), nil
}

func median(samples []sample) sample {
	pick := func(f func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, f(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{pick(func(s sample) float64 { return s.value }), pick(func(s sample) float64 { return s.cpu })}
}

// figure writes a number with the digits that mean something.
func figure(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
}

func cpu(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", v)
}
