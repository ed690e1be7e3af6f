package server

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// annAndBob has two users; ann's password is a hash, which takes no longer to check than it must.
func annAndBob(t testing.TB) auth.Config {
	hash, err := bcrypt.GenerateFromPassword([]byte("pw"), bcrypt.MinCost)
	require.NoError(t, err)
	return auth.Config{Users: []auth.User{{Name: "ann", Password: string(hash)}, {Name: "bob", Password: "b"}}}
}

func TestTextLogin(t *testing.T) {
	b := newTextBroker(t, Options{Auth: policy(t, annAndBob(t)), RefusalDelay: -1})
	f := func(in, want string, closed bool) {
		t.Helper()
		for _, pieces := range [][]string{{in}, strings.SplitAfter(in, "\n"), strings.Split(in, "")} {
			out, isClosed := b.play(pieces...)
			require.Equal(t, want, out, "%q", pieces)
			require.Equal(t, closed, isClosed, "%q", pieces)
		}
	}
	const refused = "-ERR 'Authorization Violation'\r\n"
	f("PING\r\n", refused, true)
	f("SUB a 1\r\nCONNECT {\"user\":\"bob\",\"pass\":\"b\"}\r\n", refused, true)
	f("PUB a 1\r\nx\r\n", refused, true)
	f("HPUB a 1 1\r\nx\r\n", refused, true)
	f("TOPICS\r\n", refused, true)
	f("nonsense\r\n", refused, true)
	f("CONNECT {}\r\n", refused, true)
	f("CONNECT {\"auth_token\":\"good\"}\r\nPING\r\n", refused, true)
	f("CONNECT {\"user\":\"ann\",\"pass\":\"no\"}\r\nPING\r\n", refused, true)
	f("CONNECT {\"user\":\"nobody\",\"pass\":\"no\"}\r\nPING\r\n", refused, true)
	f("CONNECT {\"nkey\":\"U\",\"sig\":\"%%\"}\r\nPING\r\n", refused, true)
	f("CONNECT {\"nkey\":\"U\",\"sig\":\"%%\",\"user\":\"bob\",\"pass\":\"b\"}\r\nPING\r\n", "+OK\r\nPONG\r\n", false)
	f("CONNECT {\"user\":\"ann\",\"pass\":\"pw\"}\r\nPING\r\nSUB a 1\r\n", "+OK\r\nPONG\r\n+OK\r\n", false)
	// Another user does not inherit subscriptions.
	f("CONNECT {\"user\":\"bob\",\"pass\":\"b\",\"verbose\":false}\r\nSUB a 1\r\nPUB a 0\r\n\r\n"+
		"CONNECT {\"user\":\"ann\",\"pass\":\"pw\",\"verbose\":true}\r\nPUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n+OK\r\n+OK\r\n", false)
	// A login stays when other options change, and not when it is wrong.
	const bob = "CONNECT {\"user\":\"bob\",\"pass\":\"b\"}\r\n"
	f(bob+"CONNECT {\"verbose\":false}\r\nPING\r\n", "+OK\r\nPONG\r\n", false)
	f(bob+"CONNECT {\"user\":\"ann\"}\r\nPING\r\n", "+OK\r\n"+refused, true)
	require.NotZero(t, b.srv.metrics.authFailures.Load())
}

// NATS clients are set to wait for as little as 250 ms, and stop trying after two refusals they heard of.
func TestARefusalComesBeforeClientsGiveUp(t *testing.T) {
	var o Options
	o.setDefaults()
	require.Positive(t, o.RefusalDelay)
	require.LessOrEqual(t, 2*o.RefusalDelay, 250*time.Millisecond/2)
}

// What is sent before anybody knows who sends it is bounded.
func TestAStrangersBacklogIsBounded(t *testing.T) {
	b := newTextBroker(t, Options{Auth: policy(t, annAndBob(t))})
	p := b.peer()
	p.feed("CONNECT {\"user\":\"ann\",\"pass\":\"pw\"}\r\n" + strings.Repeat("PING\r\n", maxStranger))
	require.True(t, p.m.closed)
	require.Equal(t, "-ERR 'too much was sent while a command waits'\r\n", p.take())
}

func TestAuthenticationTimeout(t *testing.T) {
	b := newTextBroker(t, Options{Auth: policy(t, annAndBob(t)), AuthTimeout: time.Minute})
	in, out, silent := b.peer(), b.peer(), b.peer()
	in.feed("CONNECT {\"user\":\"bob\",\"pass\":\"b\"}\r\n")
	b.until(func() bool { return in.s.admitted }, "a login")
	out.feed("CON")
	b.clock.Add((time.Minute + time.Second).Milliseconds())
	for _, l := range b.loops {
		l.sweep(b.now())
		l.endTurn(b.now())
	}
	require.False(t, in.m.closed)
	require.True(t, out.m.closed)
	require.True(t, silent.m.closed)
	require.Equal(t, "-ERR 'Authentication Timeout'\r\n", silent.take())
	require.Equal(t, "-ERR 'Authentication Timeout'\r\n", out.take())
}

// Timeouts are looked at once a second, but a connection is closed when its time is over.
func TestAuthenticationTimeoutBetweenSweeps(t *testing.T) {
	b := newTextBroker(t, Options{Auth: policy(t, annAndBob(t)), AuthTimeout: time.Minute})
	p := b.peer()
	l := p.s.loop
	at := func(after time.Duration, run func(now time.Time)) {
		now := p.s.opened.Add(after)
		run(now)
		l.endTurn(now)
	}
	at(time.Minute-1500*time.Millisecond, l.sweep)
	_, armed := l.timers.next()
	require.False(t, armed, "there is a sweep before")
	at(time.Minute-500*time.Millisecond, l.sweep)
	due, armed := l.timers.next()
	require.True(t, armed)
	require.Equal(t, p.s.opened.Add(time.Minute), due)
	at(time.Minute-1, l.tick)
	require.False(t, p.m.closed)
	at(time.Minute, l.tick)
	require.True(t, p.m.closed)
	require.Equal(t, "-ERR 'Authentication Timeout'\r\n", p.take())
}

// Who needs no login has to say something in the same time; what nobody may do without one is no reason
// to hold a connection.
func TestAuthenticationTimeoutWithoutALogin(t *testing.T) {
	users := annAndBob(t)
	users.NoAuthUser = "bob"
	b := newTextBroker(t, Options{Auth: policy(t, users), AuthTimeout: time.Minute})
	person, program, silent := b.peer(), b.peer(), b.peer()
	person.feed("PING\r\n")
	program.feed("CONNECT {\"verbose\":false}\r\n")
	b.clock.Add((time.Minute + time.Second).Milliseconds())
	for _, l := range b.loops {
		l.sweep(b.now())
		l.endTurn(b.now())
	}
	require.False(t, person.m.closed)
	require.False(t, program.m.closed)
	require.True(t, silent.m.closed)
	require.Equal(t, "-ERR 'Authentication Timeout'\r\n", silent.take())

	everybody := newTextBroker(t, Options{AuthTimeout: time.Minute})
	guest := everybody.peer()
	everybody.clock.Add((2 * time.Minute).Milliseconds())
	for _, l := range everybody.loops {
		l.sweep(everybody.now())
	}
	require.False(t, guest.m.closed)
}

func TestBinaryLogin(t *testing.T) {
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	c := annAndBob(t)
	c.Users = append(c.Users, auth.User{NKey: public})
	srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
	f := func(mechanism string, credentials func(nonce string) string, code wire.Code) {
		t.Helper()
		p := connect(t, srv)
		require.NotEmpty(t, p.info.Nonce)
		require.True(t, p.info.Auth)
		hello := wire.Hello{Mechanism: mechanism, Credentials: []byte(credentials(p.info.Nonce))}
		p.write(wire.AppendPreface(nil))
		p.send(wire.OpHello, 0, hello.Append)
		p.send(wire.OpPing, 0, func(dst []byte) []byte { return append(dst, "there"...) }) // does not wait for the reply
		reply := p.read()
		require.Equal(t, wire.OpHello|wire.OpReply, reply.Op)
		if code != 0 {
			var e wire.Error
			require.NoError(t, e.Parse(reply.Body))
			require.Equal(t, code, e.Code)
			p.closed()
			return
		}
		require.Zero(t, reply.Flags)
		require.Equal(t, "there", string(p.read().Body))
	}
	say := func(s string) func(string) string { return func(string) string { return s } }
	sign := func(nonce string) string {
		sig, err := key.Sign([]byte(nonce))
		require.NoError(t, err)
		return public + "\x00" + string(sig)
	}
	f("plain", say("ann\x00pw"), 0)
	f("plain", say("bob\x00b"), 0)
	f("plain", say("bob\x00no"), wire.CodeUnauthenticated)
	f("plain", say("bob"), wire.CodeMalformed)
	f("token", say("b"), wire.CodeUnauthenticated)
	f("", say(""), wire.CodeUnauthenticated)
	f("magic", say(""), wire.CodeUnsupported)
	f("nkey", sign, 0)
	f("nkey", func(string) string { return sign("another nonce") }, wire.CodeUnauthenticated)
	f("nkey", say(public+"\x00"), wire.CodeUnauthenticated)
}

// natsURL is the address of a broker for NATS clients.
func natsURL(srv *Server) string { return "nats://" + srv.Addr().String() }

func TestNATSClientsLogIn(t *testing.T) {
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	other, err := nkeys.CreateUser()
	require.NoError(t, err)
	hashed, err := auth.HashArgon2id("t0ken")
	require.NoError(t, err)
	users := annAndBob(t)
	users.Users = append(users.Users, auth.User{NKey: public})
	sign := func(with nkeys.KeyPair) nats.Option {
		return nats.Nkey(public, func(nonce []byte) ([]byte, error) { return with.Sign(nonce) })
	}
	f := func(c auth.Config, ok bool, opts ...nats.Option) {
		t.Helper()
		srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
		nc, err := nats.Connect(natsURL(srv), append(opts, nats.Timeout(waitLimit))...)
		if !ok {
			require.ErrorIs(t, err, nats.ErrAuthorization)
			return
		}
		require.NoError(t, err)
		defer nc.Close()
		require.NoError(t, nc.Flush())
	}
	f(users, true, nats.UserInfo("ann", "pw"))
	f(users, false, nats.UserInfo("ann", "wrong"))
	f(users, false, nats.Token("pw"))
	f(users, false)
	f(users, true, sign(key))
	f(users, false, sign(other))
	f(auth.Config{Token: "secret"}, true, nats.Token("secret"))
	f(auth.Config{Token: hashed}, true, nats.Token("t0ken"))
	f(auth.Config{Token: "secret"}, false, nats.Token("other"))
	f(auth.Config{User: "me", Password: "pw"}, true, nats.UserInfo("me", "pw"))
	users.NoAuthUser = "bob"
	f(users, true)
	f(users, false, nats.UserInfo("bob", "wrong"))
}

// natsErrors collects what a NATS client reports.
func natsErrors() (nats.Option, <-chan error) {
	errs := make(chan error, 16)
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }), errs
}

func receiveError(t *testing.T, errs <-chan error) error {
	t.Helper()
	select {
	case err := <-errs:
		return err
	case <-time.After(waitLimit):
		require.FailNow(t, "no error was reported")
		return nil
	}
}

func TestPermissionsOfNATSClients(t *testing.T) {
	c := auth.Config{Users: []auth.User{
		{Name: "admin", Password: "a"},
		{Name: "app", Password: "a", Permissions: &auth.Permissions{
			Publish:   auth.Rule{Allow: []string{"app.>", "_INBOX.>"}, Deny: []string{"app.secret"}},
			Subscribe: auth.Rule{Allow: []string{">"}, Deny: []string{"admin.>", "jobs"}},
		}},
		{Name: "service", Password: "a", Permissions: &auth.Permissions{
			Subscribe: auth.Rule{Allow: []string{"service.*"}}, Responses: &auth.Responses{Max: 2},
		}},
	}}
	srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
	dial := func(user string) (*nats.Conn, <-chan error) {
		handler, errs := natsErrors()
		return natsClient(t, srv, nats.UserInfo(user, "a"), handler), errs
	}
	admin, _ := dial("admin")
	app, errs := dial("app")
	all, err := app.SubscribeSync(">")
	require.NoError(t, err)
	require.NoError(t, app.Flush())
	for _, to := range []string{"admin.x", "jobs", "free"} {
		require.NoError(t, admin.Publish(to, nil))
	}
	m, err := all.NextMsg(waitLimit)
	require.NoError(t, err)
	require.Equal(t, "free", m.Subject, "the others are denied")

	require.NoError(t, app.Publish("other", nil))
	require.ErrorIs(t, receiveError(t, errs), nats.ErrPermissionViolation)
	require.NoError(t, app.Publish("app.secret", nil))
	require.ErrorContains(t, receiveError(t, errs), `Permissions Violation for Publish to "app.secret"`)
	_, err = app.SubscribeSync("admin.*")
	require.NoError(t, err)
	require.ErrorContains(t, receiveError(t, errs), `Permissions Violation for Subscription to "admin.*"`)
	_, err = app.QueueSubscribeSync("jobs", "q")
	require.NoError(t, err)
	require.ErrorContains(t, receiveError(t, errs), `Permissions Violation for Subscription to "jobs" using queue "q"`)
	require.False(t, app.IsClosed())

	service, errs := dial("service")
	_, err = service.Subscribe("service.echo", func(m *nats.Msg) {
		for range 3 {
			_ = m.Respond(m.Data)
		}
	})
	require.NoError(t, err)
	require.NoError(t, service.Flush())
	reply, err := admin.Request("service.echo", []byte("hi"), waitLimit)
	require.NoError(t, err)
	require.Equal(t, "hi", string(reply.Data))
	require.ErrorIs(t, receiveError(t, errs), nats.ErrPermissionViolation, "two answers were allowed")
	require.NoError(t, service.Publish("app.x", nil))
	require.ErrorIs(t, receiveError(t, errs), nats.ErrPermissionViolation)
	require.NotZero(t, srv.metrics.denials.Load())
}

// A new policy applies to open connections.
func TestSetAuthCutsOffWhoLostTheRight(t *testing.T) {
	c := annAndBob(t)
	srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
	handler, errs := natsErrors()
	ann := natsClient(t, srv, nats.UserInfo("ann", "pw"), nats.NoReconnect(), handler)
	bobsHandler, bobsErrs := natsErrors()
	bob := natsClient(t, srv, nats.UserInfo("bob", "b"), nats.NoReconnect(), bobsHandler)
	sub, err := ann.SubscribeSync("private.x")
	require.NoError(t, err)
	require.NoError(t, ann.Flush())

	p := connect(t, srv)
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("ann\x00pw")}
	p.write(wire.AppendPreface(nil))
	require.Zero(t, p.call(wire.OpHello, 0, hello.Append).Flags)
	_, err = srv.registry.Create("private.log", 1, nil)
	require.NoError(t, err)
	h := p.resolve("private.log").Handle
	subscribe := wire.Subscribe{Handle: h, Credit: 100}
	require.Zero(t, p.call(wire.OpSubscribe, 0, subscribe.Append).Flags)
	fetch := wire.Fetch{Handle: h, MinBytes: 1, MaxBytes: 100, MaxWaitMs: 60_000}
	p.send(wire.OpFetch, 0, fetch.Append)
	require.Equal(t, "x", string(p.call(wire.OpPing, 0, func(dst []byte) []byte { return append(dst, 'x') }).Body))

	c.Users = []auth.User{c.Users[0]}
	c.Users[0].Permissions = &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"private.>"}}}
	srv.SetAuth(policy(t, c))
	require.ErrorIs(t, receiveError(t, bobsErrs), nats.ErrAuthorization)
	require.Eventually(t, bob.IsClosed, waitLimit, time.Millisecond)
	require.ErrorContains(t, receiveError(t, errs), `Permissions Violation for Subscription to "private.x"`)
	require.NoError(t, ann.Publish("private.x", nil))
	require.NoError(t, ann.Flush())
	n, _, err := sub.Pending()
	require.Zero(t, n, err)
	for range 2 {
		f := p.read()
		require.NotZero(t, f.Flags&wire.FlagError)
		var e wire.Error
		require.NoError(t, e.Parse(f.Body))
		require.Equal(t, wire.CodeForbidden, e.Code)
	}
	srv.SetAuth(nil)
	require.Eventually(t, func() bool {
		nc, err := nats.Connect(natsURL(srv), nats.Timeout(waitLimit))
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, waitLimit, 10*time.Millisecond)
}

// Every operation of the binary protocol asks whether the user may.
func TestEveryOperationAsks(t *testing.T) {
	c := auth.Config{Users: []auth.User{{Name: "u", Password: "p"}}}
	srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
	p := connect(t, srv)
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("u\x00p")}
	p.write(wire.AppendPreface(nil))
	require.Zero(t, p.call(wire.OpHello, 0, hello.Append).Flags)
	h := p.resolve("jobs").Handle
	p.publish(h, 0, "one")
	p.commitTo(h, "g", 0)
	c.Users[0].Permissions = &auth.Permissions{
		Publish: auth.Rule{Deny: []string{">"}}, Subscribe: auth.Rule{Deny: []string{">"}},
	}
	srv.SetAuth(policy(t, c))
	require.Eventually(t, func() bool {
		return p.call(wire.OpFetch, 0, (&wire.Fetch{Handle: h, MaxBytes: 1}).Append).Flags&wire.FlagError != 0
	}, waitLimit, time.Millisecond)

	jobs := wire.TopicName{Topic: "jobs"}
	settle := wire.Settle{Handle: h, Group: []byte("q"), Ranges: []wire.LeaseRange{{First: 0, Count: 1, Attempt: 1}}}
	bodies := map[wire.Op]func(dst []byte) []byte{
		wire.OpResolve: jobs.Append, wire.OpDescribeTopic: jobs.Append, wire.OpDeleteTopic: jobs.Append,
		wire.OpCreateTopic: (&wire.CreateTopic{Topic: "new"}).Append,
		wire.OpAlterTopic:  (&wire.AlterTopic{Topic: "jobs", Partitions: 2}).Append,
		wire.OpPurgeTopic:  (&wire.PurgeTopic{Topic: "jobs", Partition: wire.AnyPartition}).Append,
		wire.OpPublish:     (&wire.Publish{Handle: h, Batch: batchOf("x")}).Append,
		wire.OpSchedule:    (&wire.Schedule{Handle: h, Items: []wire.ScheduleItem{{Kind: wire.ScheduleDelay, Batch: batchOf("x")}}}).Append,
		wire.OpSchedules:   (&wire.Schedules{Handle: h}).Append,
		wire.OpCancel:      (&wire.Cancel{Handle: h, IDs: []uint64{1}}).Append,
		wire.OpFetch:       (&wire.Fetch{Handle: h, MaxBytes: 1}).Append,
		wire.OpSubscribe:   (&wire.Subscribe{Handle: h, Credit: 1}).Append,
		wire.OpOffsets:     (&wire.Offsets{Handle: h}).Append,
		wire.OpGet:         (&wire.Get{Handle: h, Key: []byte("k")}).Append,
		wire.OpOpenQueue:   (&wire.OpenQueue{Handle: h, Group: "q"}).Append,
		wire.OpLease:       (&wire.Lease{Handle: h, Group: []byte("q"), MaxMessages: 1, MaxBytes: 1}).Append,
		wire.OpAck:         settle.Append, wire.OpNack: settle.Append, wire.OpReject: settle.Append, wire.OpExtend: settle.Append,
		wire.OpDiscard:     settle.Append,
		wire.OpPending:     (&wire.Pending{Handle: h, Group: "q"}).Append,
		wire.OpCommit:      (&wire.Commit{Handle: h, Group: []byte("g"), Offsets: []wire.PartitionOffset{{}}}).Append,
		wire.OpCommitted:   (&wire.Committed{Handle: h, Group: "g"}).Append,
		wire.OpSend:        (&wire.Live{Subject: []byte("jobs")}).Append,
		wire.OpListen:      (&wire.Listen{Pattern: "jobs"}).Append,
		wire.OpDeleteGroup: (&wire.DeleteGroup{Group: "g"}).Append,
		wire.OpJoinGroup:   (&wire.JoinGroup{Group: "g", Member: "m", Topics: []string{"jobs"}}).Append,
		wire.OpSeekGroup:   (&wire.SeekGroup{Group: "g", Topic: "jobs", Offsets: []wire.PartitionOffset{{}}}).Append,
		wire.OpPauseGroup:  (&wire.PauseGroup{Group: "g", Topic: "jobs", Pause: true}).Append,
	}
	lists := map[wire.Op]bool{wire.OpListTopics: true, wire.OpGroups: true, wire.OpMembers: true, wire.OpStats: true} // show what may be seen
	for op := range operations {
		if operations[op].action == actionNone || lists[wire.Op(op)] {
			continue
		}
		body := bodies[wire.Op(op)]
		require.NotNil(t, body, "no test for %s", wire.Op(op))
		p.refused(wire.CodeForbidden, wire.Op(op), 0, body)
	}
	var list wire.TopicList
	require.NoError(t, list.Parse(p.call(wire.OpListTopics, 0, (&wire.ListTopics{Limit: 10}).Append).Body))
	require.Empty(t, list.Topics)
	require.Equal(t, "[]", string(p.call(wire.OpGroups, 0, (&wire.Groups{}).Append).Body))
	require.Equal(t, "[]", string(p.call(wire.OpMembers, 0, (&wire.Groups{}).Append).Body))
}

// A login that is being checked, or waits for its turn, does not outlive the broker.
func TestAStopWaitsForLogins(t *testing.T) {
	srv := startServer(t, Options{Auth: policy(t, annAndBob(t))})
	for range maxLogins {
		srv.logins <- struct{}{} // the next one has to wait
	}
	p := connect(t, srv)
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("ann\x00pw")}
	p.write(append(wire.AppendPreface(nil), request1(wire.OpHello, 0, 0, hello.Append)...))
	checking := func() bool {
		stacks := make([]byte, 4<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), ".(*session).logIn.")
	}
	require.Eventually(t, checking, waitLimit, time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	require.False(t, checking())
}

// Who hangs up while others' logins are checked leaves nothing to be checked.
func TestALoginIsGivenUpWhenTheClientHasGone(t *testing.T) {
	srv := startServer(t, Options{Auth: policy(t, annAndBob(t))})
	for range maxLogins {
		srv.logins <- struct{}{} // the next one has to wait
	}
	defer func() {
		for range maxLogins {
			<-srv.logins
		}
	}()
	checking := func() bool {
		stacks := make([]byte, 4<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), ".(*session).logIn.")
	}
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("ann\x00no")}
	p := connect(t, srv)
	p.write(append(wire.AppendPreface(nil), request1(wire.OpHello, 0, 0, hello.Append)...))
	require.Eventually(t, checking, waitLimit, time.Millisecond)
	require.NoError(t, p.conn.Close())
	require.Eventually(t, func() bool { return !checking() }, waitLimit, time.Millisecond)
}

// Logins that nobody came round to checking are given up, so that many who wait do not keep others out for long. That is no
// refusal.
func TestALoginIsGivenUpWhenItsTurnDoesNotCome(t *testing.T) {
	srv := startServer(t, Options{Auth: policy(t, annAndBob(t)), AuthTimeout: 50 * time.Millisecond})
	for range maxLogins {
		srv.logins <- struct{}{}
	}
	p := connect(t, srv)
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("ann\x00pw")}
	p.write(wire.AppendPreface(nil))
	e := p.refused(wire.CodeBusy, wire.OpHello, 0, hello.Append)
	require.Equal(t, wire.RetryLater, e.Retry)
	require.Empty(t, p.closed())
	_, err := nats.Connect(natsURL(srv), nats.UserInfo("ann", "pw"), nats.Timeout(waitLimit))
	require.ErrorContains(t, err, "Authentication Timeout")
	require.Zero(t, srv.metrics.authFailures.Load())
	for range maxLogins {
		<-srv.logins
	}
	_, err = nats.Connect(natsURL(srv), nats.UserInfo("ann", "wrong"), nats.Timeout(waitLimit))
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

// Who was let in without a login is not, once nobody is.
func TestSetAuthCutsOffWhoNeedsALoginNow(t *testing.T) {
	c := auth.Config{Users: []auth.User{{Name: "guest"}, {Name: "bob", Password: "b"}}, NoAuthUser: "guest"}
	srv := startServer(t, Options{Auth: policy(t, c)})
	p := login(t, srv)
	srv.SetAuth(policy(t, c))
	p.ping()
	c.NoAuthUser = ""
	srv.SetAuth(policy(t, c))
	require.Contains(t, p.closed(), "no longer valid")
}

// Strangers who guess do not hide from the log who logs in and who is refused a request.
func TestRefusedLoginsDoNotHideOtherLines(t *testing.T) {
	said := &lockedLog{}
	only := auth.Rule{Allow: []string{"a"}}
	ann := auth.User{Name: "ann", Password: "ann", Permissions: &auth.Permissions{Publish: only, Subscribe: only}}
	srv := startServer(t, Options{
		Auth: policy(t, auth.Config{Users: []auth.User{ann}}), RefusalDelay: -1, Logger: slog.New(slog.NewTextHandler(said, nil)),
	})
	for range 30 {
		require.ErrorIs(t, flushNATS(srv, nats.UserInfo("ann", "guess")), nats.ErrAuthorization)
	}
	nc, err := nats.Connect(natsURL(srv), nats.UserInfo("ann", "ann"), nats.Timeout(waitLimit))
	require.NoError(t, err)
	defer nc.Close()
	require.NoError(t, nc.Publish("b", nil))
	require.NoError(t, nc.Flush())
	require.Equal(t, 1, said.count("logged in"))
	require.Equal(t, 1, said.count("permission denied"))
}
