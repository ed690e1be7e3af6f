package server

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// infoPolicy has a user who may do everything, one who may do a little and one who may not ask.
func infoPolicy(t *testing.T) *auth.Policy {
	return policy(t, auth.Config{Users: []auth.User{
		{Name: "all", Password: "p"},
		{Name: "some", Password: "p", Permissions: &auth.Permissions{
			Publish:   auth.Rule{Allow: []string{"$SYS.REQ.>"}, Deny: []string{"$SYS.REQ.ACCOUNT.>"}},
			Subscribe: auth.Rule{Allow: []string{"_INBOX.>", "jobs workers"}},
			Responses: &auth.Responses{},
		}},
		{Name: "none", Password: "p", Permissions: &auth.Permissions{Publish: auth.Rule{Deny: []string{"$SYS.>"}}}},
	}})
}

// The answers to those users, from "data" on.
const (
	infoOfAll  = `{"user":"all","account":"$G","account_name":"$G"}`
	infoOfSome = `{"user":"some","account":"$G","account_name":"$G","permissions":{` +
		`"publish":{"allow":["$SYS.REQ.\u003e"],"deny":["$SYS.REQ.ACCOUNT.\u003e"]},` +
		`"subscribe":{"allow":["_INBOX.\u003e","jobs workers"]},"responses":{"max":1,"ttl":120000000000}}}`
)

// dataOf returns the data of an answer, after a look at the rest.
func dataOf(t *testing.T, srv *Server, answer string) string {
	t.Helper()
	var a struct {
		Server map[string]any  `json:"server"`
		Data   json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &a))
	require.Equal(t, natsVersion, a.Server["ver"])
	require.Equal(t, srv.opts.Name, a.Server["name"])
	_, err := time.Parse(time.RFC3339Nano, a.Server["time"].(string))
	require.NoError(t, err)
	return string(a.Data)
}

func TestUserInfo(t *testing.T) {
	b := newTextBroker(t, Options{Auth: infoPolicy(t), RefusalDelay: -1})
	login := func(user string) *textPeer {
		p := b.peer()
		p.feed(`CONNECT {"user":"` + user + `","pass":"p","verbose":false,"headers":true,"no_responders":true}` + "\r\n")
		require.Equal(t, "PONG", p.ask("PING"))
		return p
	}
	all, some, none := login("all"), login("some"), login("none")
	all.feed("SUB > spy\r\n")

	some.feed("SUB _INBOX.a.* 7\r\nPUB $SYS.REQ.USER.INFO _INBOX.a.1 0\r\n\r\n")
	require.Regexp(t, `^MSG _INBOX\.a\.1 7 \d+\r\n$`, some.line())
	require.Equal(t, infoOfSome, dataOf(t, b.srv, some.line()))
	b.turn()
	require.Empty(t, some.take(), "and not that there is nobody to answer")
	require.Equal(t, "MSG $SYS.REQ.USER.INFO spy _INBOX.a.1 0\r\n\r\n", all.take(), "requests are seen, answers are not")

	all.feed("UNSUB spy\r\nSUB me 9\r\nPUB $SYS.REQ.USER.INFO me 0\r\n\r\n")
	require.Regexp(t, `^MSG me 9 \d+\r\n$`, all.line())
	require.Equal(t, infoOfAll, dataOf(t, b.srv, all.line()))

	// Nobody is told what somebody else may do, nor who did not ask, nor who may not.
	some.feed("PUB $SYS.REQ.USER.INFO me 0\r\n\r\nPUB $SYS.REQ.USER.INFO 0\r\n\r\n")
	b.turn()
	require.Empty(t, all.take())
	require.Empty(t, some.take())
	none.feed("SUB me 1\r\nPUB $SYS.REQ.USER.INFO me 0\r\n\r\n")
	require.Equal(t, "-ERR 'Permissions Violation for Publish to \"$SYS.REQ.USER.INFO\"'\r\n", none.take())
}

func TestUserInfoOfNobodyInParticular(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	id := p.listen("me", "")
	p.sendLive(wire.FlagNoResponders, "$SYS.REQ.USER.INFO", "me", "", "")
	var m wire.Live
	f := p.read()
	require.Equal(t, wire.OpMessage, f.Op)
	require.Equal(t, id, f.Correlation)
	require.Zero(t, f.Flags)
	require.NoError(t, m.Parse(f.Body))
	require.Equal(t, `{"user":"","account":"$G","account_name":"$G"}`, dataOf(t, srv, string(m.Payload)))
	p.sendLive(wire.FlagNoResponders, "$SYS.REQ.SERVER.PING", "me", "", "")
	require.Equal(t, `me  "" `+" nobody", p.message(id))
}
