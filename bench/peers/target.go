package main

import (
	"fmt"
	"slices"
)

// figure names one figure of one system in one scenario.
type figure struct{ scenario, system, name string }

// target says what Rafka's figure should be, as a multiple of a peer's.
type target struct {
	what  string // the figure, in words
	unit  string
	ours  figure
	peer  figure
	bound float64 // of the ratio ours / peer
	less  bool    // bound is an upper bound; otherwise it is a lower bound
}

func (t *target) met(ratio float64) bool {
	if t.less {
		return ratio <= t.bound
	}
	return ratio >= t.bound
}

func (t *target) String() string {
	if t.less {
		return fmt.Sprintf("<= %g x", t.bound)
	}
	return fmt.Sprintf(">= %g x", t.bound)
}

// allTargets returns all targets.
func allTargets() []target { return slices.Concat(nativeTargets(), natsTargets(), neighbourTargets()) }

// bounds are the bounds of the same figure against several peers.
type bounds []struct {
	system string // id of the peer
	bound  float64
}

// neededByTarget reports whether a target, or the summary, needs a system in a scenario: what stands in one table should be
// from one run.
func neededByTarget(scenario, system string) bool {
	if slices.ContainsFunc(summaryRows, func(r summaryRow) bool { return r.scenario == scenario && slices.Contains(r.systems, system) }) {
		return true
	}
	return slices.ContainsFunc(allTargets(), func(t target) bool {
		return t.ours.scenario == scenario && (t.ours.system == system || t.peer.system == system)
	})
}

// list collects targets. The methods add a target for each of peers.
type list []target

// add adds t with the scenario and the name of its figure for each peer.
func (l *list) add(t target, peers bounds) {
	for _, p := range peers {
		t.peer.system, t.bound = p.system, p.bound
		t.peer.scenario, t.peer.name = t.ours.scenario, t.ours.name
		*l = append(*l, t)
	}
}

// rate adds lower bounds for a rate.
func (l *list) rate(what, scenario, ours string, peers bounds) {
	l.add(target{what: what, unit: "msg/s", ours: figure{scenario, ours, "rate"}}, peers)
}

// less adds upper bounds for a figure.
func (l *list) less(what, unit string, ours figure, peers bounds) {
	l.add(target{what: what, unit: unit, ours: ours, less: true}, peers)
}

// nativeTargets returns the targets for Rafka's own client.
func nativeTargets() []target {
	var l list
	const best, single = "publish acked, best window, 128 B", "publish acked, one in flight, 128 B"
	const deliver, open = "publish to deliver, one in flight, 128 B", "open loop, 50 k msg/s, 128 B"

	l.rate("acked publish", best, "rafka", bounds{{"js-memory", 15}, {"redis", 4}})
	l.rate("acked publish", best, "rafka-disk", bounds{{"js-sync", 200}, {"redis-always", 10}, {"js-file", 8}})
	l.less("acked publish, one in flight, p50", "us", figure{single, "rafka-disk", "p50"}, bounds{{"redis-always", 1}, {"js-sync", 0.8}})
	for _, size := range []int{16, 128} {
		scenario := sized("fire-and-forget publish", size)
		l.rate(scenario, scenario, "rafka", bounds{{"nats", 1.5}})
	}
	for _, shape := range []string{"1:1", "1:4"} {
		scenario := "publish to subscribers " + shape + ", 128 B"
		l.rate(scenario, scenario, "rafka", bounds{{"nats", 3}, {"js-memory", 15}})
	}
	for _, f := range []struct {
		size             int
		redis, jetStream float64
	}{{128, 2.5, 15}, {1 << 10, 2, 10}} {
		scenario := sized("fetch a backlog of 1 GiB", f.size)
		l.rate(scenario, scenario, "rafka", bounds{{"redis", f.redis}, {"js-memory", f.jetStream}})
		l.rate(scenario, scenario, "rafka-file", bounds{{"js-file", f.jetStream}})
	}
	l.rate("queue consume with ack", "queue consume with ack, 128 B", "rafka", bounds{{"js-memory", 8}, {"redis", 2}, {"nsq", 10}})
	l.less("publish to ack, one in flight, p50", "us", figure{single, "rafka", "p50"}, bounds{{"js-memory", 0.4}, {"redis", 1}})
	l.less("publish to ack, one in flight, p99", "us", figure{single, "rafka", "p99"}, bounds{{"js-memory", 0.5}, {"redis", 1}})
	l.less("publish to deliver, one in flight, p50", "us", figure{deliver, "rafka", "p50"}, bounds{{"nats", 0.6}, {"redis", 1}})
	for _, p := range []string{"p99", "p99.9"} {
		what := "open loop 50 k/s, publish to deliver, " + p
		l.less(what, "us", figure{open, "rafka", "deliver " + p}, bounds{{"nats", 0.5}})
		l.less(what, "us", figure{open, "rafka-disk", "deliver " + p}, bounds{{"nats", 0.5}, {"js-file", 0.05}})
	}
	l.less("server CPU per million acked messages", "s", figure{best, "rafka", "cpu"}, bounds{{"js-memory", 0.05}, {"redis", 0.3}})
	l.less("memory per idle connection", "KB", figure{idleConnections, "rafka", "KB"}, bounds{{"nats", 0.05}, {"redis", 0.25}})
	l.rate("64 topics on disk at once", "publish acked to 64 topics, 128 B", "rafka-disk", bounds{{"js-sync", 100}})
	return l
}

// natsTargets returns the targets for NATS clients.
func natsTargets() []target {
	var l list
	const ours, peer = "rafka-nats", "nats"
	for _, size := range commandSizes {
		scenario := sized("nats bench pub", size)
		l.rate(scenario, scenario, ours, bounds{{peer, 1.2}})
	}
	for _, shape := range []string{"1:1", "1:4", "4:4"} {
		scenario := "nats bench pub/sub " + shape + ", 128 B"
		l.rate(scenario, scenario, ours, bounds{{peer, 1.3}})
	}
	for _, p := range []string{"p50", "p99"} {
		l.less("request/reply, one in flight, "+p, "us", figure{"request/reply, one in flight, 128 B", ours, p}, bounds{{peer, 0.9}})
	}
	for _, scenario := range []string{newSubjectsName, churnName} {
		l.rate(scenario, scenario, ours, bounds{{peer, 2}})
	}
	l.less("memory per idle connection", "KB", figure{idleConnections, ours, "KB"}, bounds{{peer, 0.3}})
	l.less("memory per subscription", "B", figure{subscriptionsName, ours, "B"}, bounds{{peer, 0.3}})
	return l
}

// neighbourTargets returns the targets for a quiet connection: it is its own peer, before it has a neighbour.
func neighbourTargets() (all []target) {
	const ours = "rafka-nats"
	for _, n := range neighbours {
		name := quietBeside + n.name
		all = append(all, target{
			what: "p99 beside " + n.name, unit: "us", bound: 1.2, less: true,
			ours: figure{name, ours, "beside p99"}, peer: figure{name, ours, "alone p99"},
		})
	}
	return all
}
