package server

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/subject"
)

// userInfoSubject is where a NATS client asks who it is. Like every subject it may only be published to by who may,
// and everybody who subscribes to it sees the requests.
const userInfoSubject = "$SYS.REQ.USER.INFO"

// onlyAccount is the name that NATS gives to the account of a server that has no others.
const onlyAccount = "$G"

// serveSystem answers a request to the broker itself. Only the requester's own subscriptions get the
// answer. It reports whether the message is such a request.
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

// waiting returns a subscription of the session to a reply subject, or nil.
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

// The answer to userInfoSubject, field by field as NATS has it.
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

// userInfo says who somebody is. Logins do not expire.
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
