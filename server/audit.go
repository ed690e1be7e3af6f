package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// audit bounds the log lines about who connects and may do what. Each kind of event has a bound of its own, so that a flood
// of one, which strangers can cause, does not hide the others.
type audit struct {
	logins, failures, unchecked, turnedAway, handshakes rate.Sometimes

	mu      sync.Mutex // guards denials
	denials map[string]*rate.Sometimes
}

// maxAudited bounds the users whose denials have bounds of their own: with more of them, all begin anew.
const maxAudited = 1000

func sometimes() rate.Sometimes { return rate.Sometimes{First: 20, Interval: time.Second} }

func newAudit() *audit {
	return &audit{
		logins: sometimes(), failures: sometimes(), unchecked: sometimes(), turnedAway: sometimes(), handshakes: sometimes(),
		denials: map[string]*rate.Sometimes{},
	}
}

// denialsOf returns the bound of a user's denials: a flood of one user's does not hide another's.
func (a *audit) denialsOf(user string) *rate.Sometimes {
	a.mu.Lock()
	defer a.mu.Unlock()
	some := a.denials[user]
	if some == nil {
		if len(a.denials) >= maxAudited {
			clear(a.denials)
		}
		fresh := sometimes()
		some = &fresh
		a.denials[user] = some
	}
	return some
}
