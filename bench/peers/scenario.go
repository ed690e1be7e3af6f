package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// scenario is a task that systems are measured with.
type scenario struct {
	name      string
	systems   []string // ids of the systems that can do it
	tool      string   // a program that it needs besides the server; "" for none
	maxRounds int      // limits the rounds where more are not worth their time; 0 for no limit
	// prepare fills a server that serves all rounds. If it is nil, each round has a new server.
	prepare func(s *server) error
	// run measures a server once.
	run func(s *server) (outcome, error)
}

// outcome is the result of one measurement.
type outcome struct {
	figures figures
	note    string // what was wrong, as in sample; "" for nothing
}

const (
	span   = time.Second // how long a measurement of a rate takes
	warmUp = span / 5    // how long the warm-up before it takes
)

// scenarios returns all scenarios, in the order in which they are measured and printed.
func scenarios() []scenario {
	var all []scenario
	for _, family := range [][]scenario{
		sendScenarios(), publishScenarios(), deliverScenarios(), fetchScenarios(), queueScenarios(), roundTripScenarios(),
		openLoopScenarios(), memoryScenarios(), startScenarios(), subjectScenarios(), commandScenarios(), neighbourScenarios(),
	} {
		all = append(all, family...)
	}
	return all
}

// sideRounds limits the rounds of scenarios that no target is about.
const sideRounds = 5

// payloads are the sizes of payloads that are measured, in bytes.
var payloads = []int{16, 128, 1 << 10, 16 << 10}

// sized returns the name of a scenario with a payload of size bytes.
func sized(what string, size int) string { return what + ", " + payload(size) }

func payload(size int) string {
	if size >= 1<<10 {
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%d B", size)
}

// connected calls f with a new connection, which must implement T, and closes the connection.
func connected[T any](s *server, f func(T) error) error {
	c, err := s.sys.dial(s)
	if err != nil {
		return err
	}
	able, ok := c.(T)
	if !ok {
		return errors.Join(fmt.Errorf("the driver of %s cannot do that", s.sys.name), c.close())
	}
	return errors.Join(f(able), c.close())
}

const (
	topicName = "bench" // the topic of most scenarios
	warmName  = "warm"  // the topic of their warm-ups
)

// notes joins the notes that are not empty.
func notes(all ...string) string {
	var found []string
	for _, n := range all {
		if n != "" {
			found = append(found, n)
		}
	}
	return strings.Join(found, "; ")
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
