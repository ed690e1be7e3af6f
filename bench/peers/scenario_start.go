package main

import (
	"time"
)

// startScenarios measure how long a server takes to start, without data and after a crash.
func startScenarios() []scenario {
	const size, n = 1 << 10, backlogBytes >> 10
	return []scenario{
		{
			name: "start-up", systems: []string{"nats", "js-file", "nsq", "redis", "rafka", "rafka-file"},
			run: func(s *server) (outcome, error) {
				return outcome{figures: figures{"ms": milliseconds(s.took)}}, nil
			},
		},
		{
			name: "recovery of 1 GiB after kill -9, 1 KiB", systems: []string{"js-file", "nsq-file", "redis-everysec", "rafka-os"},
			maxRounds: sideRounds,
			run: func(s *server) (outcome, error) {
				if err := fill(s, size, n); err != nil {
					return outcome{}, err
				}
				return recovery(s, n)
			},
		},
	}
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// recovery kills the server, starts it again and waits until it can count its messages; n were stored.
// "ms" is the time until then, "greeting ms" the time until it greeted a connection.
func recovery(s *server, n int) (o outcome, err error) {
	if err := s.kill(); err != nil {
		return o, err
	}
	if err := s.start(); err != nil {
		return o, err
	}
	have := 0
	err = connected(s, func(c publisher) error {
		return waitUntil("the server had its data", func() (bool, error) {
			have, err = c.count(topicName)
			return err == nil, nil // it may still be loading
		})
	})
	o.figures = figures{"ms": milliseconds(time.Since(s.began)), "greeting ms": milliseconds(s.took)}
	o.note = faults(n-have, 0, 0)
	return o, err
}
