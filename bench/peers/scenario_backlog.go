package main

import (
	"fmt"
	"time"
)

// backlogBytes is the size of the payloads of the backlog that is fetched or recovered.
const backlogBytes = 1 << 30

// readLimit is how long a backlog is read at most: some systems would take a minute for all of it.
const readLimit = 2 * time.Second

// fill publishes n messages of size bytes as fast as the system accepts them, and fails unless it has
// stored all of them.
func fill(s *server, size, n int) error {
	return connected(s, func(c publisher) error {
		if err := c.(conn).create(keepAll, topicName); err != nil {
			return err
		}
		w := &work{size: size, limit: n, until: time.Now().Add(5 * patience)}
		var err error
		if fast, ok := c.(streamer); ok {
			err = fast.publishStream(topicName, w)
		} else {
			err = c.publish([]string{topicName}, w, 0)
		}
		if err != nil {
			return err
		}
		stored, err := c.count(topicName)
		if err == nil && stored != n {
			return fmt.Errorf("%d of %d messages were stored", stored, n)
		}
		return err
	})
}

// fetchScenarios read a backlog of 1 GiB from its start, for readLimit or to its end.
func fetchScenarios() (all []scenario) {
	for _, size := range []int{128, 1 << 10} {
		n := backlogBytes / size
		all = append(all, scenario{
			name: sized("fetch a backlog of 1 GiB", size), systems: []string{"js-memory", "js-file", "redis", "rafka", "rafka-file"},
			prepare: func(s *server) error { return fill(s, size, n) },
			run: func(s *server) (o outcome, err error) {
				err = connected(s, func(c fetcher) error {
					var got checker
					all := &work{}
					o.figures, err = s.rate(all, func() error {
						until := time.Now().Add(readLimit)
						defer func() { all.sent = got.got }()
						return c.fetch(topicName, func(p []byte) bool {
							got.take(p)
							return got.got < n && (got.got%checkEvery != 0 || time.Now().Before(until))
						})
					})
					o.note = got.verdict(got.got)
					return err
				})
				return o, err
			},
		})
	}
	return all
}

// queueScenarios publish messages for a while, then take them from a queue and acknowledge each.
func queueScenarios() []scenario {
	const most = 1_000_000
	return []scenario{{
		name: "queue consume with ack, 128 B", systems: concat(inMemory, inKernel, onDisk),
		run: func(s *server) (o outcome, err error) {
			err = connected(s, func(c consumer) error {
				if err := c.(conn).create(keepAll, topicName); err != nil {
					return err
				}
				w := &work{size: 128, limit: most, until: time.Now().Add(span)}
				if err := c.(publisher).publish([]string{topicName}, w, 0); err != nil {
					return err
				}
				var got onceChecker
				taken := 0
				all := &work{}
				o.figures, err = s.rate(all, func() error {
					until := time.Now().Add(readLimit)
					defer func() { all.sent = taken }()
					return c.consume(topicName, func(p []byte) bool {
						got.take(p)
						taken++
						return taken < w.sent && (taken%checkEvery != 0 || time.Now().Before(until))
					})
				})
				o.note = got.verdict(taken)
				return err
			})
			return o, err
		},
	}}
}
