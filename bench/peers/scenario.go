package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// scenario is something that systems do.
type scenario struct {
	name    string
	systems []string // that can do it
	tool    string   // a program besides the servers that is needed; "" for none
	most    int      // rounds, where more are not worth their time; 0 for as many as are wanted
	// prepare fills a server that stays for all rounds; nil for a fresh server each round.
	prepare func(s *server) error
	run     func(s *server) (outcome, error)
}

// outcome is what one measurement found.
type outcome struct {
	figures figures
	note    string // what was wrong
}

// span is how long a measurement of a rate takes, warmth how long what comes before it does.
const (
	span   = time.Second
	warmth = span / 5
)

// scenarios in the order in which they are measured and printed.
func scenarios() []scenario {
	var all []scenario
	for _, family := range [][]scenario{
		sendScenarios(), publishScenarios(), deliverScenarios(), fetchScenarios(), queueScenarios(), roundTripScenarios(),
		openLoopScenarios(), memoryScenarios(), startScenarios(), subjectScenarios(), commandScenarios(),
	} {
		all = append(all, family...)
	}
	return all
}

// beside is how many rounds have the scenarios that no target is about.
const beside = 2

// payloads are the sizes that are measured.
var payloads = []int{16, 128, 1 << 10, 16 << 10}

func sized(what string, size int) string { return what + ", " + payload(size) }

func payload(size int) string {
	if size >= 1<<10 {
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%d B", size)
}

// connected hands a connection that can do what T says to f and closes it.
func connected[T any](s *server, f func(T) error) error {
	c, err := s.sys.dial(s)
	if err != nil {
		return err
	}
	able, ok := c.(T)
	if !ok {
		return errors.Join(fmt.Errorf("%s cannot do that", s.sys.name), c.close())
	}
	return errors.Join(f(able), c.close())
}

// topicName is the topic of most scenarios; warmName that of what comes before.
const (
	topicName = "bench"
	warmName  = "warm"
)

// notes joins what is wrong.
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
