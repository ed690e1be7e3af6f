package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// memorySystems differ in where they keep messages. Systems that differ only in when they acknowledge use
// the same memory.
var memorySystems = []string{"js-memory", "js-file", "nsq-file", "redis", "rafka", "rafka-file"}

func memoryScenarios() []scenario {
	all := []scenario{
		{name: "memory, idle", systems: concat([]string{"nats"}, memorySystems), run: idleMemory},
		{name: idleConnections, systems: []string{"nats", "nsq", "redis", "rafka", "rafka-nats"}, run: connectionMemory},
	}
	topics := func(name string, n, rounds int) {
		all = append(all, scenario{
			name: name, systems: memorySystems, maxRounds: rounds,
			run: func(s *server) (outcome, error) { return topicMemory(s, n) },
		})
	}
	topics("memory, 1,000 topics", 1000, 3)
	topics("memory, 10,000 topics", 10_000, 1)
	return all
}

const idleConnections = "memory, 10,000 idle connections"

const megabyte = 1e6

// settle is the pause in which a server finishes its background work before its memory is measured.
const settle = 300 * time.Millisecond

func idleMemory(s *server) (o outcome, err error) {
	time.Sleep(settle)
	bytes, err := s.memory()
	o.figures = figures{"MB": bytes / megabyte}
	return o, err
}

// connectionMemory opens idle connections, after the handshake. A few connections before the measurement
// make the server allocate what all connections share.
func connectionMemory(s *server) (o outcome, err error) {
	const warm, n = 100, 10_000
	if err := allowFiles(n + 2*warm); err != nil {
		return o, err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	open := func(n int) error {
		for range n {
			c, err := greet(s)
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	}
	if err := open(warm); err != nil {
		return o, err
	}
	before, err := s.memory()
	if err != nil {
		return o, err
	}
	if err := open(n); err != nil {
		return o, fmt.Errorf("connection %d: %w", len(conns), err)
	}
	time.Sleep(settle)
	after, err := s.memory()
	o.figures = figures{"KB": (after - before) / n / 1000, "MB": after / megabyte}
	return o, err
}

// allowFiles raises the soft limit of open files to the hard limit, which must be at least n. The servers
// that start later inherit the limit.
func allowFiles(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < n {
		return fmt.Errorf("%d open files are needed and %d are allowed: raise the limit with ulimit -Hn %d", n, limit.Max, n)
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// topicPatience is how long creating the topics may take; fewer topics are measured then.
const topicPatience = 20 * time.Second

// topicMemory measures the memory of n topics with one message each, and the rate of creating them.
func topicMemory(s *server, n int) (o outcome, err error) {
	err = connected(s, func(c publisher) error {
		start := time.Now()
		made, err := makeTopics(c, n, start.Add(topicPatience))
		if err != nil {
			return err
		}
		if made < n {
			o.note = fmt.Sprintf("only %d topics in %v", made, topicPatience)
		}
		rate := perSecond(made, time.Since(start))
		time.Sleep(settle)
		bytes, err := s.memory()
		o.figures = figures{"MB": bytes / megabyte, "topics/s": rate}
		return err
	})
	return o, err
}

// makers is how many goroutines create topics: each of them waits for the server most of the time.
const makers = 16

// makeTopics creates n topics with one message each, and returns how many it created by until.
func makeTopics(c publisher, n int, until time.Time) (made int, err error) {
	payload := make([]byte, 128)
	stamp(payload, 0)
	var next, done atomic.Int64
	errs := make([]error, makers)
	var wg sync.WaitGroup
	for i := range makers {
		wg.Go(func() {
			for errs[i] == nil && time.Now().Before(until) {
				k := next.Add(1)
				if k > int64(n) {
					return
				}
				topic := fmt.Sprintf("%s%d", topicName, k)
				if errs[i] = errors.Join(c.(conn).create(keepAll, topic), c.publishOne(topic, payload)); errs[i] == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(done.Load()), errors.Join(errs...)
}
