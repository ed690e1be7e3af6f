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

// memorySystems are told apart by where they keep things; safer acknowledgements make no difference.
var memorySystems = []string{"js-memory", "js-file", "nsq-file", "redis", "rafka", "rafka-file"}

func memoryScenarios() []scenario {
	all := []scenario{
		{name: "memory, idle", systems: concat([]string{"nats"}, memorySystems), run: idleMemory},
		{name: idleConnections, systems: []string{"nats", "nsq", "redis", "rafka", "rafka-nats"}, run: connectionMemory},
	}
	topics := func(name string, n, rounds int) {
		all = append(all, scenario{
			name: name, systems: memorySystems, most: rounds,
			run: func(s *server) (outcome, error) { return topicMemory(s, n) },
		})
	}
	topics("memory, 1,000 topics", 1000, 3)
	topics("memory, 10,000 topics", 10_000, 1)
	return all
}

const idleConnections = "memory, 10,000 idle connections"

const megabyte = 1e6

// settle is how long a server may take to be done with what starting or a change leaves to do.
const settle = 300 * time.Millisecond

func idleMemory(s *server) (o outcome, err error) {
	time.Sleep(settle)
	bytes, err := s.memory()
	o.figures = figures{"MB": bytes / megabyte}
	return o, err
}

// connectionMemory opens connections that have said hello and do nothing. Some more before them have the
// server make what it makes once.
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

// allowFiles makes sure that a process may have n open files. The servers inherit the limit.
func allowFiles(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < n {
		return fmt.Errorf("the limit of open files is %d here, %d are needed: ulimit -Hn %d", limit.Max, n, n)
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// topicPatience is how long making the topics may take.
const topicPatience = 20 * time.Second

// topicMemory makes topics with a message each.
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

// makers is how many goroutines make topics: each waits for the server most of the time.
const makers = 16

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
