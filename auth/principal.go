package auth

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/subject"
)

// Principal is a user that has logged in. A nil Principal may do everything.
type Principal struct {
	user  *user
	token string // of a login by token, which has no name

	certificate *x509.Certificate // of a login by certificate
	guest       bool              // it sent no credentials, and is NoAuthUser
}

// rights are compiled Permissions. nil rights allow everything.
type rights struct {
	publish   patterns
	subscribe patterns
	admin     []string
	responses *Responses
}

// patterns is a compiled Rule.
type patterns struct {
	allow, deny []entry
	grouped     bool // some entry is about a queue group
}

// entry is one pattern of a Rule.
type entry struct {
	pattern []byte
	queue   []byte // only for subscriptions in this queue group; nil means all subscriptions
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
			// As in NATS: a user that may answer may publish nothing else, unless Publish allows it.
			r.publish.deny = append(r.publish.deny, entry{pattern: []byte(">")})
		}
	}
	return r
}

func compileRule(r Rule) patterns {
	grouped := false
	list := func(from []string) (to []entry) {
		for _, s := range from {
			pattern, queue, both := strings.Cut(s, " ")
			e := entry{pattern: []byte(pattern)}
			if both {
				e.queue, grouped = []byte(queue), true
			}
			to = append(to, e)
		}
		return to
	}
	allow, deny := list(r.Allow), list(r.Deny)
	return patterns{allow: allow, deny: deny, grouped: grouped}
}

// Name returns the user's name or public nkey. It is "" for a nil Principal and for a login by
// token.
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

// Permissions returns what the user may do, with defaults filled in; nil means everything. The
// result is a copy.
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

// Restricted reports whether there are subjects that the user may not publish to.
func (p *Principal) Restricted() bool {
	r := p.rights()
	return r != nil && len(r.publish.allow)+len(r.publish.deny) > 0
}

// MaySubscribe reports whether the user may subscribe to a pattern; if queue is not empty, as a
// member of that queue group. Single messages may still have to be withheld: see MayReceive.
func (p *Principal) MaySubscribe(pattern, queue []byte) bool {
	r := p.rights()
	if r == nil {
		return true
	}
	if len(queue) > 0 && r.subscribe.grouped && !subject.Valid(queue) {
		return false // no pattern matches such a name
	}
	for _, e := range r.subscribe.deny {
		if e.speaksOf(queue) && subject.Covers(e.pattern, pattern) {
			return false
		}
	}
	return len(r.subscribe.allow) == 0 || r.subscribe.allowsSubscription(pattern, queue)
}

// allowsSubscription reports whether the list of what is allowed has a pattern. If entries for queue groups
// have it, a member of a queue group needs one of those; the others do not count for it.
func (p *patterns) allowsSubscription(pattern, queue []byte) bool {
	plain, grouped := false, false
	for _, e := range p.allow {
		switch {
		case !subject.Covers(e.pattern, pattern):
		case e.queue == nil:
			plain = true
		case len(queue) > 0 && e.speaksOf(queue):
			return true
		default:
			grouped = true
		}
	}
	return plain && (!grouped || len(queue) == 0)
}

// speaksOf reports whether e applies to subscriptions in a queue group; "" means none.
func (e *entry) speaksOf(queue []byte) bool {
	return e.queue == nil || len(queue) > 0 && subject.Match(e.queue, queue)
}

// filters reports whether messages to the user's subscriptions must be checked with MayReceive.
func (p *Principal) filters() bool {
	r := p.rights()
	return r != nil && len(r.subscribe.deny) > 0
}

// MayReceive reports whether the user may see a message on a subject, whatever pattern it
// subscribed to; if queue is not empty, as a member of that queue group.
func (p *Principal) MayReceive(on []byte, queue string) bool {
	if !p.filters() {
		return true
	}
	for _, e := range p.rights().subscribe.deny {
		if subject.Match(e.pattern, on) && e.speaksOf([]byte(queue)) {
			return false
		}
	}
	return true
}

// MayBind reports whether the user may have the messages on all subjects of a pattern stored in a topic that it
// may read under another name: it may subscribe to the pattern, and no part of that is denied.
func (p *Principal) MayBind(pattern []byte) bool {
	if p.filters() {
		for _, e := range p.rights().subscribe.deny {
			if e.queue == nil && subject.Overlap(e.pattern, pattern) {
				return false
			}
		}
	}
	return p.MaySubscribe(pattern, nil)
}

// MayAdmin reports whether the user may create, change, purge and delete a topic.
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

// Responses returns the limits for answers to reply subjects of received messages, or nil when the
// user may not answer. The caller must not change it.
func (p *Principal) Responses() *Responses {
	if r := p.rights(); r != nil {
		return r.responses
	}
	return nil
}

// allows reports whether s is allowed. Deny overrides allow, and an empty allow allows everything
// else. A denied > also denies what is not a subject, such as a..b, which no pattern matches.
func (p *patterns) allows(s []byte) bool {
	for _, e := range p.deny {
		if string(e.pattern) == ">" || subject.Match(e.pattern, s) {
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

// rule returns the Rule that p was compiled from.
func (p *patterns) rule() Rule {
	list := func(from []entry) (to []string) {
		for _, e := range from {
			to = append(to, e.String())
		}
		return to
	}
	return Rule{Allow: list(p.allow), Deny: list(p.deny)}
}

// String returns the entry as it is written in a Config.
func (e *entry) String() string {
	if e.queue == nil {
		return string(e.pattern)
	}
	return string(e.pattern) + " " + string(e.queue)
}

// Replies are the reply subjects that a connection received and may answer to. The zero value is
// ready to use. It is not safe for concurrent use.
type Replies struct {
	until map[string]reply
	bytes int // size of the subjects in until
}

type reply struct {
	left int       // messages that may still be sent; negative means no limit
	at   time.Time // when it expires; zero means never
}

func (r reply) over(now time.Time) bool { return !r.at.IsZero() && now.After(r.at) }

// maxReplies bounds the reply subjects of one connection, and maxReplyBytes their size: requesters choose it.
const (
	maxReplies    = 65536
	maxReplyBytes = 8 << 20
)

// Note allows answers to a reply subject, within the limits of r.
func (rs *Replies) Note(to []byte, r *Responses, now time.Time) {
	if rs.until == nil {
		rs.until = map[string]reply{}
	}
	if len(rs.until) >= maxReplies || rs.bytes+len(to) > maxReplyBytes {
		rs.prune(now)
	}
	end := now.Add(r.TTL)
	if r.TTL < 0 {
		end = time.Time{}
	}
	before := len(rs.until)
	rs.until[string(to)] = reply{left: r.Max, at: end}
	if len(rs.until) > before {
		rs.bytes += len(to)
	}
}

// forget removes a reply subject.
func (rs *Replies) forget(to string) {
	delete(rs.until, to)
	rs.bytes -= len(to)
}

// prune removes what has expired or is used up. If much is left, it removes everything: otherwise it would soon be called
// again, and look at all of it.
func (rs *Replies) prune(now time.Time) {
	for to, r := range rs.until {
		if r.over(now) || r.left == 0 {
			rs.forget(to)
		}
	}
	if len(rs.until) > maxReplies/2 || rs.bytes > maxReplyBytes/2 {
		clear(rs.until)
		rs.bytes = 0
	}
}

// GiveBack undoes a Take for a message that was not sent. It does nothing for a subject that is not known any more.
func (rs *Replies) GiveBack(to []byte) {
	if r, ok := rs.until[string(to)]; ok && r.left >= 0 {
		r.left++
		rs.until[string(to)] = r
	}
}

// Take reports whether one more message may be sent to a reply subject, and counts it.
func (rs *Replies) Take(to []byte, now time.Time) bool {
	r, ok := rs.until[string(to)]
	switch {
	case !ok:
		return false
	case r.over(now) || r.left == 0:
		rs.forget(string(to))
		return false
	case r.left > 0:
		r.left--
		rs.until[string(to)] = r
	}
	return true
}
