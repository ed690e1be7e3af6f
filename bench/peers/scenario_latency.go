package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// roundTripScenarios measure latencies with one message in flight.
func roundTripScenarios() []scenario {
	return []scenario{
		{
			name: "publish to deliver, one in flight, 128 B", systems: concat([]string{"nats"}, inMemory, inKernel, onDisk, []string{"rafka-file"}),
			run: deliverOneByOne,
		},
		{name: "request/reply, one in flight, 128 B", systems: []string{"nats", "rafka", "rafka-nats"}, run: requestReply},
	}
}

// deliverOneByOne measures from the publish of a message until its subscriber has it. The next one is
// published after that.
func deliverOneByOne(s *server) (o outcome, err error) {
	p, err := gather(s, 1, 1)
	if err != nil {
		return o, err
	}
	arrived := make(chan time.Time, 1)
	p.receivers[0].delivered = func(uint64) { arrived <- time.Now() }
	took := newHistogram()
	var start time.Time
	began := time.Now()
	room := func(w *work) int {
		if w.sent > 0 {
			if at := <-arrived; time.Since(began) > warmUp {
				record(took, at.Sub(start))
			}
		}
		start = time.Now()
		return 1
	}
	if err := p.listen(true); err != nil {
		return o, errors.Join(err, p.leave())
	}
	w := &work{size: 128, until: began.Add(warmUp + span), prompt: true, room: room}
	o.figures, err = s.rate(w, func() error {
		err := publishAny(p.publishers[0], topicName, w)
		waitReceived(p.receivers, w.sent)
		return err
	})
	if err := errors.Join(err, p.leave()); err != nil {
		return o, err
	}
	addPercentiles(o.figures, "", took)
	o.note = notes(p.verdict(w.sent)...)
	return o, nil
}

func requestReply(s *server) (o outcome, err error) {
	err = connected(s, func(answering requester) error {
		return connected(s, func(asking requester) error {
			if err := answering.respond("echo"); err != nil {
				return err
			}
			ask := func(w *work, took *hdrhistogram.Histogram) error {
				for p := w.next(); p != nil; p = w.next() {
					start := time.Now()
					answer, err := asking.request("echo", p)
					if err != nil {
						return err
					}
					record(took, time.Since(start))
					if !bytes.Equal(answer, p) {
						return errors.New("the answer does not echo the request")
					}
				}
				return nil
			}
			if err := ask(&work{size: 128, until: time.Now().Add(warmUp)}, newHistogram()); err != nil {
				return err
			}
			took := newHistogram()
			w := &work{size: 128, until: time.Now().Add(span)}
			if o.figures, err = s.rate(w, func() error { return ask(w, took) }); err != nil {
				return err
			}
			addPercentiles(o.figures, "", took)
			return nil
		})
	})
	return o, err
}

// openLoop is how long an open loop takes. When it ends later by more than half of that, the system has
// fallen behind.
const openLoop = 2 * time.Second

// openLoopScenarios publish at a fixed rate, however fast the system is. Latencies count from when a
// message was due, so that a stall counts for every message that it delayed.
func openLoopScenarios() (all []scenario) {
	for _, l := range []struct{ rate, maxRounds int }{{10_000, sideRounds}, {50_000, 0}} {
		all = append(all, scenario{
			name:      fmt.Sprintf("open loop, %d k msg/s, 128 B", l.rate/1000),
			systems:   concat([]string{"nats"}, inMemory, inKernel, onDisk, []string{"rafka-file"}),
			maxRounds: l.maxRounds,
			run:       func(s *server) (outcome, error) { return publishAtRate(s, float64(l.rate)) },
		})
	}
	return all
}

// publishAtRate measures an open loop of rate messages per second.
func publishAtRate(s *server, rate float64) (o outcome, err error) {
	p, err := gather(s, 1, 1)
	if err != nil {
		return o, err
	}
	if err := p.listen(true); err != nil {
		return o, errors.Join(err, p.leave())
	}
	defer sleepExactly()()
	start := time.Now().Add(10 * time.Millisecond)
	warm := int(rate * warmUp.Seconds())
	w := &work{
		size: 128, rate: rate, prompt: true, start: start, limit: warm + int(rate*openLoop.Seconds()),
		until: start.Add(warmUp + openLoop*3/2),
	}
	ack, delivered := newHistogram(), newHistogram()
	took := func(h *hdrhistogram.Histogram, i int) {
		if i >= warm {
			record(h, time.Since(w.due(i)))
		}
	}
	w.acked = func(i int) { took(ack, i) }
	p.receivers[0].delivered = func(head uint64) { took(delivered, int(head&sequenceMask)) }
	o.figures, err = s.rate(w, func() error {
		err := publishAny(p.publishers[0], topicName, w)
		waitReceived(p.receivers, w.sent)
		return err
	})
	late := time.Since(w.due(w.limit)) > openLoop/2
	if err := errors.Join(err, p.leave()); err != nil {
		return o, err
	}
	if ack.TotalCount() > 0 {
		addPercentiles(o.figures, "ack ", ack)
	}
	addPercentiles(o.figures, "deliver ", delivered)
	behind := ""
	if late {
		behind = "falls behind"
	}
	o.note = notes(append(p.verdict(w.sent), behind)...)
	return o, nil
}
