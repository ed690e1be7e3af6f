package server

import (
	"math/rand/v2"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// Limits of logins.
const (
	// maxLogins bounds the logins that are checked at a time. Checking a password takes CPU time by design,
	// which must not be taken from connections that are logged in.
	maxLogins = 2
	// maxStranger bounds the bytes that a connection may send while its login is checked.
	maxStranger = 64 << 10
)

// required reports whether connections must log in.
func (srv *Server) required() bool { return srv.policy.Load().Required() }

// logIn checks credentials and calls then on the session's loop, with nil when they are valid: at once when the check is
// fast, and otherwise later. The session must run nothing meanwhile. The error is errLoginWaits when nothing was checked.
func (s *session) logIn(c *auth.Credentials, then func(err error, now time.Time), now time.Time) {
	srv := s.loop.srv
	policy := srv.policy.Load()
	c.Nonce, c.Certificate = s.nonce, s.certificate()
	if policy.Open() || c.Empty() {
		who, err := policy.Login(c)
		s.judge(c, who, err, then, now)
		return
	}
	s.judging, s.left = true, make(chan struct{})
	l, left := s.loop, s.left
	srv.wg.Go(func() {
		turn := time.NewTimer(srv.opts.AuthTimeout)
		defer turn.Stop()
		select {
		case srv.logins <- struct{}{}:
		case <-turn.C: // or those who only want to be in the way would keep everybody else waiting
			l.post(jobFunc(func(now time.Time) { s.notJudged(then, now) }))
			return
		case <-left: // or those who hang up at once would keep everybody else waiting
			return
		case <-srv.stop:
			return // nobody waits for the outcome
		}
		who, err := policy.Login(c)
		<-srv.logins
		if err != nil {
			delay := max(0, srv.opts.RefusalDelay)
			select {
			case <-time.After(delay + rand.N(delay+1)):
			case <-left:
			case <-srv.stop:
			}
		}
		l.post(jobFunc(func(now time.Time) {
			s.judging = false
			if s.closed {
				return
			}
			if renewed, ok := srv.renew(policy, who); err == nil && !ok {
				err = auth.ErrRefused
			} else {
				who = renewed
			}
			s.judge(c, who, err, then, now)
		}))
	})
}

// errLoginWaits is the error of a login whose turn to be checked has not come within AuthTimeout. It says nothing about the
// credentials.
var errLoginWaits = wire.Errorf(wire.CodeBusy, "too many logins wait to be checked")

// notJudged gives up a login that was not checked.
func (s *session) notJudged(then func(error, time.Time), now time.Time) {
	s.judging = false
	if s.closed {
		return
	}
	s.loop.srv.metrics.timeouts.Add(1)
	s.loop.srv.audit.unchecked.Do(func() {
		s.loop.srv.opts.Logger.Warn("login not checked in time", "conn", s.id, "addr", s.t.RemoteAddr())
	})
	then(errLoginWaits, now)
}

// renew returns the principal that a principal of an older policy has under the current one.
func (srv *Server) renew(policy *auth.Policy, who *auth.Principal) (*auth.Principal, bool) {
	if today := srv.policy.Load(); today != policy {
		return today.Renew(who)
	}
	return who, true
}

// judge sets the principal of the peer.
func (s *session) judge(c *auth.Credentials, who *auth.Principal, err error, then func(error, time.Time), now time.Time) {
	srv := s.loop.srv
	if err == nil {
		s.who, s.admitted, s.replies = who, true, nil
		if who != nil {
			srv.audit.logins.Do(func() {
				srv.opts.Logger.Info("logged in", "conn", s.id, "addr", s.t.RemoteAddr(), "user", who.Name())
			})
		}
	} else {
		srv.metrics.authFailures.Add(1)
		srv.audit.failures.Do(func() {
			srv.opts.Logger.Warn("login refused", "conn", s.id, "addr", s.t.RemoteAddr(), "user", c.Name())
		})
	}
	then(err, now)
}

// late reports whether the peer has exceeded AuthTimeout: it has not logged in or, when it needs no login, has not sent
// anything.
func (s *session) late(now time.Time) bool {
	return !s.admitted && !s.judging && !now.Before(s.loginDue()) && !s.loop.srv.policy.Load().Open()
}

// loginDue returns when AuthTimeout ends for the peer.
func (s *session) loginDue() time.Time { return s.opened.Add(s.loop.srv.opts.AuthTimeout) }

// awaitLogin sets a timer for a peer whose AuthTimeout ends before the next sweep. Others need none.
func (s *session) awaitLogin(now time.Time) {
	due := s.loginDue()
	if s.closed || s.admitted || !due.After(now) || due.Sub(now) > s.loop.srv.opts.sweepInterval() {
		return
	}
	s.loop.timers.add(&timed{at: due, expire: s.checkTimeouts})
}

// SetAuth replaces the policy for new and open connections: connections whose login is no longer valid are closed, and
// subscriptions that are no longer allowed end. A nil policy allows everything.
func (srv *Server) SetAuth(p *auth.Policy) {
	srv.policy.Store(p)
	srv.postAll(func(l *loop, _ time.Time) {
		for s := range l.sessions {
			s.reconsider(p)
		}
	})
}

// reconsider applies a new policy to an open connection.
func (s *session) reconsider(p *auth.Policy) {
	if s.closed || !s.admitted {
		return
	}
	who, ok := p.Renew(s.who)
	if !ok {
		s.loop.srv.opts.Logger.Warn("login no longer valid", "conn", s.id, "addr", s.t.RemoteAddr(), "user", s.who.Name())
		s.expel(errAuth, wire.Errorf(wire.CodeUnauthenticated, "the login is no longer valid"))
		return
	}
	s.who = who
	if s.proto != nil {
		s.proto.reconsider()
	}
}

// expel tells the peer in its protocol why the connection is closed, and closes it.
func (s *session) expel(text string, e *wire.Error) {
	if b, ok := s.proto.(*binary); ok {
		b.notice(e.Code, 0, e.Detail)
	} else {
		s.write("-ERR '" + text + "'\r\n")
	}
	s.close()
}
