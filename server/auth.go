package server

import (
	"crypto/x509"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// Action is what a request needs the right to do.
type Action uint8

// The actions of the operation table.
const (
	// ActionNone needs no right beyond being logged in.
	ActionNone Action = iota
	// ActionDescribe reads what exists: topics, groups, statistics. Whoever may do anything else to a topic
	// may also describe it, and everybody who is logged in may read the broker's statistics.
	ActionDescribe
	// ActionPublish appends to a topic or publishes to a subject.
	ActionPublish
	// ActionConsume reads a topic and moves the positions of its groups and queues, or subscribes to
	// subjects.
	ActionConsume
	// ActionAdmin creates, changes, purges and deletes topics and groups.
	ActionAdmin
)

// allows reports whether somebody may do action on a topic or subject, "" for the broker as a whole.
func allows(who *auth.Principal, action Action, topic string) bool {
	if who == nil {
		return true
	}
	name := []byte(topic)
	switch action {
	case ActionPublish:
		return who.MayPublish(name)
	case ActionConsume:
		return who.MaySubscribe(name, nil)
	case ActionAdmin:
		return who.MayAdmin(name)
	case ActionDescribe:
		return topic == "" || who.MaySubscribe(name, nil) || who.MayPublish(name) || who.MayAdmin(name)
	}
	return true
}

// allowed returns a *wire.Error unless the user may do action on a topic, "" for the broker as a
// whole.
func (s *session) allowed(action Action, topic string) error {
	if allows(s.who, action, topic) {
		return nil
	}
	s.denied(action, topic)
	return wire.Errorf(wire.CodeForbidden, "user %q may not %s %q", s.who.Name(), actionNames[action], topic)
}

// actionNames are words for the actions, for a sentence whose object is a topic.
var actionNames = [...]string{
	ActionNone: "use", ActionDescribe: "see", ActionPublish: "publish to", ActionConsume: "read",
	ActionAdmin: "change",
}

// mayPublish reports whether the user may publish to a subject: because it may anyway, or because it
// received the subject to reply to. The second counts as one reply.
func (s *session) mayPublish(to []byte) bool {
	if s.who == nil || s.who.MayPublish(to) {
		return true
	}
	if s.who.Responses() != nil && s.replies.Take(to, s.loop.srv.opts.Now()) {
		return true
	}
	s.denied(ActionPublish, string(to))
	return false
}

// denied counts and reports what the user may not do.
func (s *session) denied(action Action, what string) {
	srv := s.loop.srv
	srv.metrics.denials.Add(1)
	srv.audit.Do(func() {
		srv.opts.Logger.Warn("permission denied", "conn", s.id, "addr", s.t.RemoteAddr(), "user", s.who.Name(),
			"action", actionNames[action], "topic", what)
	})
}

// certificate returns the verified certificate of the peer when its names are users, else nil.
func (s *session) certificate() *x509.Certificate {
	if s.tls == nil || len(s.tls.VerifiedChains) == 0 || !s.loop.srv.opts.TLS.MapUsers {
		return nil
	}
	return s.tls.VerifiedChains[0][0]
}
