package server

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/subject"
)

// userInfoSubject is the subject on which a NATS client asks who it is. As on every subject, publishing needs permission,
// and subscribers see the requests.
const userInfoSubject = "$SYS.REQ.USER.INFO"

// onlyAccount is the name of nats-server's default account.
const onlyAccount = "$G"

// serveSystem answers a request to the broker itself, on the requester's own subscriptions only. It reports whether the
// message is such a request.
func (l *loop) serveSystem(requester receiver, m *message) bool {
	if len(m.Reply) == 0 || string(m.Subject) != userInfoSubject {
		return false
	}
	answer := newMessage(m.Reply, l.srv.userInfo(requester.at().who))
	if sub := l.waiting(requester, m.Reply); sub != nil {
		requester.deliver(sub, answer)
	}
	return true
}

// waiting returns a subscription of the session that matches a reply subject, or nil.
func (l *loop) waiting(requester receiver, reply []byte) *liveSub {
	var found subject.Matches[live]
	l.srv.live.Match(&found, reply)
	for _, sub := range found.Subs {
		if sub.Value.to == requester {
			return sub
		}
	}
	return nil
}

// The reply on userInfoSubject, with the fields of nats-server's.
type (
	systemAnswer struct {
		Server systemServer `json:"server"`
		Data   userInfo     `json:"data"`
	}
	systemServer struct {
		Name      string    `json:"name"`
		Host      string    `json:"host"`
		ID        string    `json:"id"`
		Version   string    `json:"ver"`
		JetStream bool      `json:"jetstream"`
		Time      time.Time `json:"time"`
	}
	userInfo struct {
		User        string           `json:"user"`
		Account     string           `json:"account"`
		AccountName string           `json:"account_name"`
		Permissions *userPermissions `json:"permissions,omitempty"` // nil for everything
	}
	userPermissions struct {
		Publish   userRule       `json:"publish"`
		Subscribe userRule       `json:"subscribe"`
		Responses *userResponses `json:"responses,omitempty"`
	}
	userRule struct {
		Allow []string `json:"allow,omitempty"`
		Deny  []string `json:"deny,omitempty"`
	}
	userResponses struct {
		Max int           `json:"max"`
		TTL time.Duration `json:"ttl"` // in nanoseconds
	}
)

// userInfo describes a user. Logins do not expire.
func (srv *Server) userInfo(who *auth.Principal) []byte {
	host, _ := splitAddr(srv.Addr())
	a := systemAnswer{
		Server: systemServer{Name: srv.opts.Name, Host: host, ID: uuid.UUID(srv.id).String(), Version: natsVersion, Time: srv.opts.Now().UTC()},
		Data:   userInfo{User: who.Name(), Account: onlyAccount, AccountName: onlyAccount},
	}
	if p := who.Permissions(); p != nil {
		a.Data.Permissions = &userPermissions{Publish: userRule(p.Publish), Subscribe: userRule(p.Subscribe)}
		if r := p.Responses; r != nil {
			a.Data.Permissions.Responses = &userResponses{Max: r.Max, TTL: r.TTL}
		}
	}
	b, err := json.Marshal(a)
	if err != nil {
		panic("server: answer cannot be encoded: " + err.Error())
	}
	return b
}
