package auth

import (
	"slices"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/subject"
)

// Principal is an authenticated user. A nil Principal may do everything.
type Principal struct {
	user  *user
	token string // of a login by token: it has no other name
}

// rights are compiled Permissions; nil is everything.
type rights struct {
	publish   patterns
	subscribe patterns
	admin     []string
	responses *Responses
}

// patterns is a compiled Rule.
type patterns struct {
	allow, deny []entry
}

// entry is one pattern of a Rule.
type entry struct {
	pattern []byte
	queue   []byte // of subscriptions in this queue group only; nil for all
}

func compile(p *Permissions) *rights {
	if p == nil {
		return nil
	}
	r := &rights{publish: compileRule(p.Publish), subscribe: compileRule(p.Subscribe), admin: p.Admin}
	if p.Responses != nil {
		c := *p.Responses
		if c.Max == 0 {
			c.Max = defaultResponses
		}
		if c.TTL == 0 {
			c.TTL = defaultResponseTTL
		}
		r.responses = &c
		if len(p.Publish.Allow) == 0 {
			// As in NATS: who may answer may publish nothing else unless it is said.
			r.publish.deny = append(r.publish.deny, entry{pattern: []byte(">")})
		}
	}
	return r
}

func compileRule(r Rule) patterns {
	list := func(from []string) (to []entry) {
		for _, s := range from {
			pattern, queue, both := strings.Cut(s, " ")
			e := entry{pattern: []byte(pattern)}
			if both {
				e.queue = []byte(queue)
			}
			to = append(to, e)
		}
		return to
	}
	return patterns{allow: list(r.Allow), deny: list(r.Deny)}
}

// Name returns the user's name or public nkey, "" for a nil Principal or a login by token.
func (p *Principal) Name() string {
	if p == nil {
		return ""
	}
	return p.user.key()
}

func (p *Principal) rights() *rights {
	if p == nil {
		return nil
	}
	return p.user.rights
}

// Permissions returns what the user may do, with defaults filled in; nil is everything.
func (p *Principal) Permissions() *Permissions {
	r := p.rights()
	if r == nil {
		return nil
	}
	to := &Permissions{Publish: r.publish.rule(), Subscribe: r.subscribe.rule(), Admin: slices.Clone(r.admin)}
	if r.responses != nil {
		c := *r.responses
		to.Responses = &c
	}
	return to
}

// MayPublish reports whether the user may publish to a subject or topic.
func (p *Principal) MayPublish(to []byte) bool {
	r := p.rights()
	return r == nil || r.publish.allows(to)
}

// MaySubscribe reports whether the user may subscribe to a pattern, as a member of a queue group unless
// queue is empty. Single messages may still be withheld: see MayReceive.
func (p *Principal) MaySubscribe(pattern, queue []byte) bool {
	r := p.rights()
	if r == nil {
		return true
	}
	for _, e := range r.subscribe.deny {
		if e.speaksOf(queue) && subject.Covers(e.pattern, pattern) {
			return false
		}
	}
	if len(r.subscribe.allow) == 0 {
		return true
	}
	for _, e := range r.subscribe.allow {
		if e.speaksOf(queue) && subject.Covers(e.pattern, pattern) {
			return true
		}
	}
	return false
}

// speaksOf reports whether e is about subscriptions of a queue group, "" for none.
func (e *entry) speaksOf(queue []byte) bool {
	return e.queue == nil || len(queue) > 0 && subject.Match(e.queue, queue)
}

// Filters reports whether messages to the user's subscriptions must be checked with MayReceive.
func (p *Principal) Filters() bool {
	r := p.rights()
	return r != nil && len(r.subscribe.deny) > 0
}

// MayReceive reports whether the user may see a message on a subject, whatever it subscribed to.
func (p *Principal) MayReceive(on []byte) bool {
	if !p.Filters() {
		return true
	}
	for _, e := range p.rights().subscribe.deny {
		if e.queue == nil && subject.Match(e.pattern, on) {
			return false
		}
	}
	return true
}

// MayAdmin reports whether the user may create, change and delete a topic.
func (p *Principal) MayAdmin(topic []byte) bool {
	r := p.rights()
	if r == nil {
		return true
	}
	for _, pattern := range r.admin {
		if subject.Match([]byte(pattern), topic) {
			return true
		}
	}
	return false
}

// Responses returns the limits for answering to reply subjects of received messages, nil when the user has
// no such right.
func (p *Principal) Responses() *Responses {
	if r := p.rights(); r != nil {
		return r.responses
	}
	return nil
}

// allows reports whether s is allowed: deny beats allow, and no allow is all.
func (p *patterns) allows(s []byte) bool {
	for _, e := range p.deny {
		if subject.Match(e.pattern, s) {
			return false
		}
	}
	for _, e := range p.allow {
		if subject.Match(e.pattern, s) {
			return true
		}
	}
	return len(p.allow) == 0
}

// rule is what p was compiled from.
func (p *patterns) rule() Rule {
	list := func(from []entry) (to []string) {
		for _, e := range from {
			to = append(to, e.String())
		}
		return to
	}
	return Rule{Allow: list(p.allow), Deny: list(p.deny)}
}

// String returns the entry as a Config has it.
func (e *entry) String() string {
	if e.queue == nil {
		return string(e.pattern)
	}
	return string(e.pattern) + " " + string(e.queue)
}

// Replies are the reply subjects that a connection may answer to because it received them. The zero
// value is ready. It belongs to one goroutine.
type Replies struct {
	until map[string]reply
}

type reply struct {
	left int       // negative for any number
	at   time.Time // zero for never
}

func (r reply) over(now time.Time) bool { return !r.at.IsZero() && now.After(r.at) }

// maxReplies bounds the memory of one connection's Replies.
const maxReplies = 65536

// Note allows answers to a reply subject within the limits of r.
func (rs *Replies) Note(to []byte, r *Responses, now time.Time) {
	if rs.until == nil {
		rs.until = map[string]reply{}
	}
	if len(rs.until) >= maxReplies {
		rs.prune(now)
	}
	end := now.Add(r.TTL)
	if r.TTL < 0 {
		end = time.Time{}
	}
	rs.until[string(to)] = reply{left: r.Max, at: end}
}

// prune forgets what has expired, or everything when nothing has.
func (rs *Replies) prune(now time.Time) {
	for to, r := range rs.until {
		if r.over(now) {
			delete(rs.until, to)
		}
	}
	if len(rs.until) >= maxReplies {
		clear(rs.until)
	}
}

// Take reports whether one more message may go to a reply subject, and counts it.
func (rs *Replies) Take(to []byte, now time.Time) bool {
	r, ok := rs.until[string(to)]
	switch {
	case !ok:
		return false
	case r.over(now) || r.left == 0:
		delete(rs.until, string(to))
		return false
	case r.left > 0:
		r.left--
		rs.until[string(to)] = r
	}
	return true
}
