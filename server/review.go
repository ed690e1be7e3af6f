package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// review is live subscriptions of a session whose user has other permissions now. There can be so many that to look at all
// of them takes several turns. While any are left, mayReceive looks, too.
type review struct {
	s    *session
	subs []*liveSub
	end  func(sub *liveSub) // of one that the user may no longer have
}

// review begins a review.
func (s *session) review(subs []*liveSub, end func(sub *liveSub)) {
	if len(subs) == 0 {
		return
	}
	l := s.loop
	l.reviews = append(l.reviews, review{s, subs, end})
	if len(l.reviews) == 1 {
		l.later(jobFunc(l.goOnReviewing))
	}
}

// goOnReviewing looks at some subscriptions.
func (l *loop) goOnReviewing(time.Time) {
	for left := forgetAtOnce; left > 0 && len(l.reviews) > 0; {
		r := &l.reviews[0]
		some := r.subs[:min(len(r.subs), left)]
		r.look(some)
		left -= len(some)
		if r.subs = r.subs[len(some):]; len(r.subs) == 0 || r.s.closed {
			l.reviews[0] = review{}
			l.reviews = l.reviews[1:]
		}
	}
	if len(l.reviews) == 0 {
		l.reviews = nil
		return
	}
	l.later(jobFunc(l.goOnReviewing))
}

func (r *review) look(subs []*liveSub) {
	defer r.s.contain()
	for _, sub := range subs {
		if !r.s.closed && !sub.Gone() && !r.s.mayKeep(sub) {
			r.end(sub)
		}
	}
}

// mayKeep reports whether the user may have a subscription.
func (s *session) mayKeep(sub *liveSub) bool {
	return s.who.MaySubscribe([]byte(sub.Pattern()), []byte(sub.Queue()))
}

// reconsider ends subscriptions and waiting requests for topics that the user may no longer read.
func (b *binary) reconsider() {
	listens := make([]*liveSub, 0, len(b.listens))
	for _, sub := range b.listens {
		listens = append(listens, sub)
	}
	b.s.review(listens, b.forbidListen)
	known := map[*partition.Topic]error{}
	mayRead := func(t *partition.Topic) error {
		err, ok := known[t]
		if !ok {
			err = b.allowed(actionConsume, t.Name())
			known[t] = err
		}
		return err
	}
	for _, sub := range b.subs {
		if err := mayRead(sub.p.Topic()); err != nil {
			sub.fail(asWireError(err))
		}
	}
	for q := range b.polls {
		if err := mayRead(q.parts[0].Topic()); err != nil {
			q.fail(err)
		}
	}
}

// forbidListen ends a live subscription that the user may no longer have.
func (b *binary) forbidListen(sub *liveSub) {
	e := wire.Errorf(wire.CodeForbidden, "user %q may no longer subscribe to %q", b.s.who.Name(), sub.Pattern())
	b.push(wire.OpMessage, listenID(sub), wire.FlagError, e.Append)
	b.dropListen(sub)
}

// reconsider ends subscriptions that the user may no longer have.
func (t *text) reconsider() {
	t.s.review(t.subs.all(), func(sub *liveSub) {
		if t.subs.find([]byte(sub.Note())) == sub { // else another CONNECT ends it
			t.dropSubscription(sub)
			t.forbidSubscription(sub.Pattern(), sub.Queue())
		}
	})
}
