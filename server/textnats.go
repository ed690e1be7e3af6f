package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/subject"
)

// Errors that NATS clients compare letter by letter.
const (
	errUnknown     = "Unknown Protocol Operation"
	errAuth        = "Authorization Violation"
	errAuthTimeout = "Authentication Timeout"
	errSubject     = "Invalid Subject"
	errPublishTo   = "Invalid Publish Subject"
	errTooManySub  = "maximum subscriptions exceeded"
	errLongLine    = "maximum control line exceeded"
)

// fail tells the peer about an error. Only people are told errors that NATS does not have, because programs take an unknown
// error for the end of the connection.
func (t *text) fail(reason string) {
	out := t.s.buffer()
	out.B = append(append(append(out.B, "-ERR '"...), reason...), "'\r\n"...)
}

// refuse tells the peer an error and closes the connection, because further input cannot be trusted.
func (t *text) refuse(reason string) {
	t.fail(reason)
	t.s.loop.srv.metrics.malformed.Add(1)
	t.s.close()
}

// malformed answers a command whose arguments cannot be parsed. A person may try again.
func (t *text) malformed(args []byte, usage string) {
	if t.person {
		t.fail(usage)
		return
	}
	t.misused(args, usage)
}

// misused closes the connection of a peer whose arguments are wrong. A person is told the usage. A program gets an error
// only when there are no arguments at all, as in NATS.
func (t *text) misused(args []byte, usage string) {
	switch {
	case t.friendly():
		t.fail(usage)
	case len(args) == 0:
		t.fail(errUnknown)
	}
	t.s.loop.srv.metrics.malformed.Add(1)
	t.s.close()
}

func (t *text) ok() {
	if t.verbose {
		t.s.write("+OK\r\n")
	}
}

// friendly reports whether the peer can be a person, who reads errors that NATS does not have.
func (t *text) friendly() bool { return t.person || !t.connected }

// dispatch runs a command that has no payload.
func (t *text) dispatch(verb, args []byte, now time.Time) {
	if string(verb) == "CONNECT" {
		t.connect(args, now)
		return
	}
	if isHTTP(verb) && !t.person && !t.connected {
		t.refuseHTTP()
		return
	}
	if !t.admitted(now) {
		return
	}
	switch string(verb) {
	case "PING":
		t.pong()
	case "SUB":
		t.subscribe(args)
	case "UNSUB":
		t.unsubscribe(args)
	case "PONG", "+OK":
	case "INFO":
		t.serverInfo(args)
	case "-ERR":
		t.peerFailed(args)
	default:
		t.human(verb, args, now)
	}
}

// serverInfo accepts an INFO, which only servers send. It is ignored, but must be well formed.
func (t *text) serverInfo(args []byte) {
	if json.Unmarshal(args, &struct{}{}) != nil {
		t.malformed(args, "usage: INFO {json}")
	}
}

// peerFailed ends the connection of a program that says it has failed.
func (t *text) peerFailed(reason []byte) {
	switch {
	case t.person:
	case len(reason) == 0:
		t.refuse(errUnknown)
	default:
		t.s.close()
	}
}

// pong answers a PING. After the first one, a program that accepts INFO at any time by then is told the outcome of its
// login: not earlier, because until then it expects only the PONG.
func (t *text) pong() {
	t.s.write("PONG\r\n")
	first := !t.informed
	t.informed = true
	if t.async && first {
		out := t.s.buffer()
		out.B = t.s.loop.srv.appendConnectInfo(out.B, t.s, t.s.t)
	}
}

// admitted logs in a peer that sent no CONNECT, without credentials.
func (t *text) admitted(now time.Time) bool {
	if !t.s.admitted {
		t.s.logIn(&auth.Credentials{}, func(err error, _ time.Time) {
			if err != nil {
				t.refuse(errAuth)
			}
		}, now)
	}
	return t.s.admitted
}

// connectOptions are the fields of CONNECT that have a meaning here.
type connectOptions struct {
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	Echo         bool   `json:"echo"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	Protocol     int    `json:"protocol"`
	User         string `json:"user"`
	Password     string `json:"pass"`
	Token        string `json:"auth_token"`
	NKey         string `json:"nkey"`
	Signature    string `json:"sig"`
	Name         string `json:"name"`
	Account      string `json:"account"`
	NewAccount   bool   `json:"new_account"`
}

func (t *text) connect(args []byte, now time.Time) {
	o := t.connectOptions()
	err := json.Unmarshal(args, &o)
	switch {
	case err != nil:
		t.refuse("Invalid Connect Options")
		return
	case o.Protocol != 0 && o.Protocol != 1:
		t.refuse("invalid client protocol")
		return
	case o.NoResponders && (!o.Headers || t.s.loop.srv.opts.NoHeaders):
		t.refuse("no responders requires headers support")
		return
	case o.Account != "" || o.NewAccount: // there is only one account
		t.refuse(errAuth)
		return
	}
	t.s.pause()
	if t.connected { // the session starts again
		t.dropSubscriptions(func(now time.Time) { t.start(&o, now) }, now)
		return
	}
	t.start(&o, now)
}

// start logs in a peer whose CONNECT has the options o.
func (t *text) start(o *connectOptions, now time.Time) {
	credentials := o.credentials()
	if t.connected && credentials.Empty() { // the user stays the same
		t.welcome(o, now)
		return
	}
	before, again := t.s.who.Name(), t.s.admitted
	t.s.logIn(credentials, func(err error, now time.Time) {
		switch {
		case errors.Is(err, errLoginWaits):
			t.refuse(errAuthTimeout)
		case err != nil:
			t.refuse(errAuth)
		case again && t.s.who.Name() != before: // the subscriptions were another user's
			t.dropSubscriptions(func(now time.Time) { t.welcome(o, now) }, now)
		default:
			t.welcome(o, now)
		}
	}, now)
}

// connectOptions returns the current options, which a CONNECT changes.
func (t *text) connectOptions() connectOptions {
	o := connectOptions{
		Verbose: t.verbose, Pedantic: t.pedantic, Echo: t.echo,
		Headers: t.connected && t.headers, NoResponders: t.noResponders, Name: t.s.name,
	}
	if t.async {
		o.Protocol = 1
	}
	return o
}

// welcome applies the options of a peer that has logged in, and runs what it sent behind its CONNECT.
func (t *text) welcome(o *connectOptions, now time.Time) {
	t.connected, t.async = true, o.Protocol == 1
	t.s.name = o.Name
	t.verbose, t.pedantic, t.echo = o.Verbose, o.Pedantic, o.Echo
	t.headers = o.Headers && !t.s.loop.srv.opts.NoHeaders
	t.noResponders = o.NoResponders
	t.ok()
	t.s.proceed(now)
}

func (o *connectOptions) credentials() *auth.Credentials {
	return &auth.Credentials{
		User: o.User, Password: o.Password, Token: o.Token, NKey: o.NKey, Signature: signature(o.Signature),
	}
}

// signature decodes a signature. Clients encode it in URL-safe or standard base64, with or without padding.
func signature(s string) []byte {
	s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	sig, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil // it matches nothing
	}
	return sig
}

func (t *text) subscribe(args []byte) {
	var f [3][]byte
	n := fields(f[:], args)
	if n != 2 && n != 3 {
		t.malformed(args, "usage: SUB subject [queue] sid")
		return
	}
	pattern, queue, sid := f[0], []byte(nil), f[n-1]
	if n == 3 {
		queue = f[1]
	}
	if !t.s.who.MaySubscribe(pattern, queue) {
		t.s.denied(actionConsume, string(pattern))
		t.forbidSubscription(string(pattern), string(queue))
		return
	}
	t.allowance -= subscribeWork
	size := liveBytes(pattern, len(sid)+len(pattern)+len(queue))
	switch {
	case t.subs.len() >= t.s.loop.srv.opts.MaxSubscriptions: // also for one that exists, as nats-server says
		t.fail(errTooManySub)
		return
	case t.subs.find(sid) != nil:
	case !subject.Valid(pattern):
		t.fail(errSubject)
		return
	case !t.s.roomForSub(size):
		t.fail(errTooManySub)
		return
	default:
		t.subs.add(t.s.loop.srv.live.Insert(pattern, queue, sid, live{to: t}))
		t.s.countSub(size)
		t.s.listens++
		t.s.loop.srv.metrics.subscriptions.Add(1)
	}
	t.ok()
}

// forbidSubscription says that a user may not subscribe. Names are quoted as nats-server quotes them, here and in
// forbidPublish: bytes that are not UTF-8 would end the Python client.
func (t *text) forbidSubscription(pattern, queue string) {
	reason := "Permissions Violation for Subscription to " + strconv.Quote(pattern)
	if queue != "" {
		reason += " using queue " + strconv.Quote(queue)
	}
	t.fail(reason)
}

func (t *text) forbidPublish(subject []byte) {
	t.fail("Permissions Violation for Publish to " + strconv.Quote(string(subject)))
}

func (t *text) unsubscribe(args []byte) {
	var f [2][]byte
	n := fields(f[:], args)
	limit := 0
	if n == 2 {
		var ok bool
		if limit, ok = parseSize(f[1]); !ok && t.friendly() {
			n = 0
		}
	}
	if n != 1 && n != 2 {
		t.malformed(args, "usage: UNSUB sid [max]")
		return
	}
	t.allowance -= subscribeWork
	if sub := t.subs.find(f[0]); sub != nil {
		sub.Value.max = uint64(limit)
		if sub.Value.delivered >= sub.Value.max {
			t.dropSubscription(sub)
		}
	}
	t.ok()
}

func (t *text) dropSubscription(sub *liveSub) {
	t.subs.remove(sub)
	t.s.countSub(-liveBytes(sub.Pattern(), sub.Size()))
	t.s.listens--
	t.s.loop.srv.live.Remove(sub)
	t.s.loop.srv.metrics.subscriptions.Add(-1)
}

// dropSubscriptions removes all subscriptions, and then calls then unless the session has ended. The session must be
// paused, because there can be so many that this takes several turns.
func (t *text) dropSubscriptions(then func(time.Time), now time.Time) {
	subs := t.subs.all()
	t.subs, t.dropping = sids{}, true
	t.s.countSub(-int(t.s.subBytes))
	t.s.listens = 0
	t.s.loop.forget(subs, func(now time.Time) {
		t.dropping = false
		if !t.s.closed {
			then(now)
		}
	}, now)
}

// isHTTP reports whether a line is the start of an HTTP request.
func isHTTP(verb []byte) bool {
	switch string(verb) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE":
		return true
	}
	return false
}

// refuseHTTP tells a browser the address of the admin server.
func (t *text) refuseHTTP() {
	body := "This port is for Rafka and NATS clients."
	if a := t.s.loop.srv.AdminAddr(); a != nil {
		body += " HTTP is at http://" + a.String() + "/"
	}
	body += "\n"
	t.s.write("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	t.s.loop.srv.metrics.rejected.Add(1)
	t.s.close()
}
