package server

import (
	"time"

	"golang.org/x/time/rate"
)

// audit bounds the log lines about who connects and may do what. Each kind of event has a bound of its own, so that a flood
// of one, which strangers can cause, does not hide the others.
type audit struct {
	logins, failures, unchecked, denials, turnedAway, handshakes rate.Sometimes
}

func newAudit() *audit {
	some := func() rate.Sometimes { return rate.Sometimes{First: 20, Interval: time.Second} }
	return &audit{some(), some(), some(), some(), some(), some()}
}
