package server

import (
	"crypto/x509"
	"errors"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// action is a permission that a request needs.
type action uint8

// The actions of the operation table.
const (
	// actionNone needs only a login.
	actionNone action = iota
	// actionDescribe reads what exists: topics, groups, statistics. A user with any other permission for a topic
	// may describe it, and every user may read the broker's statistics.
	actionDescribe
	// actionPublish appends to a topic or publishes to a subject.
	actionPublish
	// actionConsume reads a topic and moves the positions of its groups and queues, or subscribes to
	// subjects.
	actionConsume
	// actionAdmin creates, changes, purges and deletes topics and groups.
	actionAdmin
)

// allows reports whether a user may do action on a topic or subject, or on the whole broker when that is "".
func allows(who *auth.Principal, action action, topic string) bool {
	if who == nil {
		return true
	}
	name := []byte(topic)
	switch action {
	case actionPublish:
		return who.MayPublish(name)
	case actionConsume:
		return who.MaySubscribe(name, nil)
	case actionAdmin:
		return who.MayAdmin(name)
	case actionDescribe:
		return topic == "" || who.MaySubscribe(name, nil) || who.MayPublish(name) || who.MayAdmin(name)
	}
	return true
}

// allowed returns a *wire.Error unless the user may do action on a topic, or on the whole broker when topic is "".
func (s *session) allowed(action action, topic string) error {
	if allows(s.who, action, topic) {
		return nil
	}
	s.denied(action, topic)
	return wire.Errorf(wire.CodeForbidden, "user %q may not %s %q", s.who.Name(), actionNames[action], topic)
}

// mayBind returns a *wire.Error unless the user may bind a topic to the subjects in its settings. Who reads the topic gets
// what is published to them.
func (s *session) mayBind(settings []wire.Setting) error {
	for _, set := range settings {
		if set.Key != "subjects" {
			continue
		}
		for _, pattern := range partition.Subjects(set.Value) {
			if !s.who.MayBind([]byte(pattern)) {
				s.denied(actionConsume, pattern)
				return wire.Errorf(wire.CodeForbidden, "user %q may not bind a topic to %q, to all of which it may not subscribe", s.who.Name(), pattern)
			}
		}
	}
	return nil
}

// actionNames are verbs for the actions, whose object is a topic.
var actionNames = [...]string{
	actionNone: "use", actionDescribe: "see", actionPublish: "publish to", actionConsume: "read",
	actionAdmin: "create or change",
}

// mayPublish reports whether the user may publish to a subject: by its permissions, or because it received the subject as
// the reply subject of a message. The latter uses up one reply.
func (s *session) mayPublish(to []byte) bool {
	if s.who == nil || s.who.MayPublish(to) {
		return true
	}
	if s.who.Responses() != nil && s.replies != nil && s.replies.Take(to, s.loop.srv.opts.Now()) {
		return true
	}
	s.denied(actionPublish, string(to))
	return false
}

// giveBack undoes what mayPublish has used up for a message that was not sent.
func (s *session) giveBack(to []byte) {
	if s.replies != nil && !s.who.MayPublish(to) {
		s.replies.GiveBack(to)
	}
}

// mayCarry returns a *wire.Error when a record has a subject that the user may not publish to: consumers, and live subscribers
// of a record that is published later, take it for a message to that. Most records have none, and most users may publish to all.
func (s *session) mayCarry(batch *wire.Batch) error {
	if !s.who.Restricted() {
		return nil
	}
	plain, err := openLive(batch)
	switch {
	case errors.Is(err, wire.CodeTooLarge):
		return wire.Errorf(wire.CodeTooLarge, "a compressed batch of a user with limited rights to publish has at most %d bytes", maxLiveBatch)
	case err != nil:
		return nil // no consumer can open it either
	}
	r := plain.Reader()
	for rec := (wire.Record{}); ; {
		if more, _ := r.Next(&rec); !more {
			return nil
		}
		if len(rec.Subject) > 0 && !s.who.MayPublish(rec.Subject) {
			s.denied(actionPublish, string(rec.Subject))
			return wire.Errorf(wire.CodeForbidden, "user %q may not publish to %q", s.who.Name(), rec.Subject)
		}
	}
}

// denied counts and logs a request that the user may not make.
func (s *session) denied(action action, what string) {
	srv := s.loop.srv
	srv.metrics.denials.Add(1)
	srv.audit.denialsOf(s.who.Name()).Do(func() {
		srv.opts.Logger.Warn("permission denied", "conn", s.id, "addr", s.t.RemoteAddr(), "user", s.who.Name(),
			"action", actionNames[action], "topic", what)
	})
}

// certificate returns the verified certificate of the peer when clients may log in with it, else nil.
func (s *session) certificate() *x509.Certificate {
	if s.tls == nil || len(s.tls.state.VerifiedChains) == 0 || !s.loop.srv.opts.TLS.MapUsers {
		return nil
	}
	return s.tls.state.VerifiedChains[0][0]
}
