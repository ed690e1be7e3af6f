package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// sendScenarios publish to subjects without subscribers: this measures the client and the server's
// receiving side.
func sendScenarios() (all []scenario) {
	for _, size := range payloads {
		all = append(all, scenario{
			name: sized("fire-and-forget publish", size), systems: []string{"nats", "rafka", "rafka-nats"},
			run: func(s *server) (o outcome, err error) {
				err = connected(s, func(c sender) error {
					if err := c.send(warmName, &work{size: size, until: time.Now().Add(warmUp)}); err != nil {
						return err
					}
					before, err := s.received()
					if err != nil {
						return err
					}
					w := &work{size: size, until: time.Now().Add(span)}
					if o.figures, err = s.rate(w, func() error { return c.send(topicName, w) }); err != nil {
						return err
					}
					after, err := s.received()
					o.note = faults(w.sent-(after-before), 0, 0)
					return err
				})
				return o, err
			},
		})
	}
	return all
}

// rate runs f, which does the work, and returns the figures of usage and the "rate" of the work in
// messages per second.
func (s *server) rate(w *work, f func() error) (figures, error) {
	var rate float64
	used, err := s.usage(func() (int, error) {
		start := time.Now()
		err := f()
		rate = perSecond(w.sent, time.Since(start))
		return w.sent, err
	})
	if err != nil {
		return nil, err
	}
	used["rate"] = rate
	return used, nil
}

// received returns the server's count of live messages, which are not stored.
func (s *server) received() (int, error) {
	resp, err := http.Get("http://" + s.varz + "/varz")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var counts struct {
		NATS  int `json:"in_msgs"`
		Rafka int `json:"live_messages"`
	}
	err = json.NewDecoder(resp.Body).Decode(&counts)
	return counts.NATS + counts.Rafka, err
}

// windows are how many messages may be unacknowledged; 0 lets the driver choose what is fastest.
var windows = []int{64, 256, 1000, 0}

// publishScenarios publish with acknowledgements.
func publishScenarios() []scenario {
	stored := concat(inMemory, inKernel, onDisk, []string{"rafka-file"})
	all := []scenario{{name: "publish acked, one in flight, 128 B", systems: stored, run: publishOneByOne}}
	for _, window := range windows {
		for _, size := range payloads {
			if window != 0 && size != 128 {
				continue
			}
			name := fmt.Sprintf("publish acked, window %d", window)
			if window == 0 {
				name = "publish acked, best window"
			}
			sc := publishScenario(sized(name, size), stored, func(c publisher, topic string, w *work) error {
				return c.publish([]string{topic}, w, window)
			}, size)
			if window != 0 || size != 128 {
				sc.maxRounds = sideRounds
			}
			all = append(all, sc)
		}
	}
	streaming := []string{"js-memory", "js-file", "js-sync"}
	atomic := concat(streaming, []string{"redis", "redis-everysec", "redis-always", "rafka", "rafka-os", "rafka-disk"})
	const batch = 500
	fast := publishScenario("publish acked, fast ingest, 128 B", streaming, func(c streamer, topic string, w *work) error {
		return c.publishStream(topic, w)
	}, 128)
	batches := publishScenario("publish acked, atomic batches of 500, 128 B", atomic, func(c atomicPublisher, topic string, w *work) error {
		return c.publishAtomic(topic, w, batch)
	}, 128)
	fast.maxRounds, batches.maxRounds = sideRounds, sideRounds
	return append(all, fast, batches, manyTopics())
}

// publishScenario publishes messages of size bytes to one topic for span, and notes how many the server
// did not store.
func publishScenario[T any](name string, systems []string, publish func(c T, topic string, w *work) error, size int) scenario {
	return scenario{name: name, systems: systems, run: func(s *server) (o outcome, err error) {
		err = connected(s, func(c publisher) error {
			if err := c.(conn).create(keepRecent, topicName, warmName); err != nil {
				return err
			}
			able := c.(T)
			if err := publish(able, warmName, &work{size: size, until: time.Now().Add(warmUp)}); err != nil {
				return err
			}
			w := &work{size: size, until: time.Now().Add(span)}
			if o.figures, err = s.rate(w, func() error { return publish(able, topicName, w) }); err != nil {
				return err
			}
			n, err := c.count(topicName)
			o.note = faults(w.sent-n, 0, 0)
			return err
		})
		return o, err
	}}
}

// publishOneByOne measures latencies: it waits for the acknowledgement of each message.
func publishOneByOne(s *server) (o outcome, err error) {
	err = connected(s, func(c publisher) error {
		if err := c.(conn).create(keepRecent, topicName, warmName); err != nil {
			return err
		}
		publish := func(topic string, w *work, took *hdrhistogram.Histogram) error {
			for p := w.next(); p != nil; p = w.next() {
				start := time.Now()
				if err := c.publishOne(topic, p); err != nil {
					return err
				}
				record(took, time.Since(start))
			}
			return nil
		}
		w := &work{size: 128, until: time.Now().Add(warmUp)}
		if err := publish(warmName, w, newHistogram()); err != nil {
			return err
		}
		took := newHistogram()
		w = &work{size: 128, until: time.Now().Add(span)}
		if o.figures, err = s.rate(w, func() error { return publish(topicName, w, took) }); err != nil {
			return err
		}
		addPercentiles(o.figures, "", took)
		n, err := c.count(topicName)
		o.note = faults(w.sent-n, 0, 0)
		return err
	})
	return o, err
}

// manyTopics publishes to 64 topics in turn.
func manyTopics() scenario {
	const n = 64
	return scenario{name: "publish acked to 64 topics, 128 B", systems: concat(inKernel, onDisk), run: func(s *server) (o outcome, err error) {
		err = connected(s, func(c publisher) error {
			topics := make([]string, n)
			for i := range topics {
				topics[i] = fmt.Sprintf("%s%d", topicName, i)
			}
			if err := c.(conn).create(keepRecent, topics...); err != nil {
				return err
			}
			w := &work{size: 128, until: time.Now().Add(span)}
			if o.figures, err = s.rate(w, func() error { return c.publish(topics, w, 0) }); err != nil {
				return err
			}
			stored := 0
			for _, topic := range topics {
				n, err := c.count(topic)
				if err != nil {
					return err
				}
				stored += n
			}
			o.note = faults(w.sent-stored, 0, 0)
			return nil
		})
		return o, err
	}}
}

// concat returns the ids of all lists.
func concat(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
