package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// users starts a broker with users whose passwords are their names, and returns a function that logs one in.
func users(t *testing.T, list ...auth.User) func(name string) *peer {
	for i := range list {
		list[i].Password = list[i].Name
	}
	srv := startServer(t, Options{Auth: policy(t, auth.Config{Users: list}), RefusalDelay: -1})
	return func(name string) *peer {
		p := connect(t, srv)
		hello := wire.Hello{Mechanism: "plain", Credentials: []byte(name + "\x00" + name)}
		p.write(wire.AppendPreface(nil))
		require.Zero(t, p.call(wire.OpHello, 0, hello.Append).Flags)
		return p
	}
}

// limited is a user who may publish, read and change only what matches a pattern.
func limited(name, pattern string) auth.User {
	only := []string{pattern}
	return auth.User{Name: name, Permissions: &auth.Permissions{
		Publish: auth.Rule{Allow: only}, Subscribe: auth.Rule{Allow: only}, Admin: only,
	}}
}

// Who may not publish to a topic is told that, though the client resolves the topic first.
func TestAPublisherLearnsThatItMayNotPublish(t *testing.T) {
	p := users(t, limited("ann", "a"))("ann")
	topic := wire.Resolve{Topic: "b"}
	e := p.refused(wire.CodeForbidden, wire.OpResolve, wire.FlagCreate, topic.Append)
	require.Equal(t, `user "ann" may not publish to "b"`, e.Detail)
	e = p.refused(wire.CodeForbidden, wire.OpResolve, 0, topic.Append)
	require.Equal(t, `user "ann" may not see "b"`, e.Detail)
	e = p.refused(wire.CodeForbidden, wire.OpCreateTopic, 0, (&wire.CreateTopic{Topic: "b"}).Append)
	require.Equal(t, `user "ann" may not create or change "b"`, e.Detail)
}

// To remove a group one needs the right to the topics that it is on, and to no others.
func TestDeletingAGroupAsksForItsTopicsOnly(t *testing.T) {
	as := users(t, auth.User{Name: "root"}, limited("ann", "a.*"))
	root, ann := as("root"), as("ann")
	commit := func(topic, group string) {
		h := root.resolve(topic).Handle
		root.publish(h, 0, "x")
		require.Zero(t, root.commitTo(h, group, 1).Flags)
	}
	commit("a.1", "own")
	commit("b.secret", "others")
	commit("a.1", "both")
	commit("b.secret", "both")
	remove := func(group, topic string) []byte { return (&wire.DeleteGroup{Group: group, Topic: topic}).Append(nil) }
	body := func(b []byte) func([]byte) []byte { return func(dst []byte) []byte { return append(dst, b...) } }

	require.Zero(t, ann.call(wire.OpDeleteGroup, 0, body(remove("own", ""))).Flags)
	for _, group := range []string{"others", "both"} {
		e := ann.refused(wire.CodeForbidden, wire.OpDeleteGroup, 0, body(remove(group, "")))
		require.NotContains(t, e.Detail, "secret")
	}
	ann.refused(wire.CodeGroupNotFound, wire.OpDeleteGroup, 0, body(remove("none", "")))
	ann.refused(wire.CodeForbidden, wire.OpDeleteGroup, 0, body(remove("both", "b.secret")))
	ann.refused(wire.CodeForbidden, wire.OpDeleteGroup, 0, body(remove("both", "b.missing"))) // whether it exists is not said
	require.Zero(t, ann.call(wire.OpDeleteGroup, 0, body(remove("both", "a.1"))).Flags)
	e := ann.refused(wire.CodeForbidden, wire.OpPauseGroup, 0, (&wire.PauseGroup{Group: "others", Pause: true}).Append)
	require.NotContains(t, e.Detail, "secret")
}

// A topic that somebody may change and read does not show what else is published.
func TestATopicIsBoundOnlyToWhatOneMaySubscribeTo(t *testing.T) {
	ann, bob := limited("ann", "a.>"), limited("bob", ">")
	bob.Permissions.Subscribe.Deny = []string{"a.secret"}
	as := users(t, ann, bob)
	settings := func(subjects string) []wire.Setting { return []wire.Setting{{Key: "subjects", Value: subjects}} }
	create := func(topic, subjects string) func([]byte) []byte {
		return (&wire.CreateTopic{Topic: topic, Settings: settings(subjects)}).Append
	}
	p := as("ann")
	e := p.refused(wire.CodeForbidden, wire.OpCreateTopic, 0, create("a.log", "a.x,>"))
	require.Contains(t, e.Detail, `may not bind a topic to ">"`)
	require.Zero(t, p.call(wire.OpCreateTopic, 0, create("a.log", "a.x.* a.y")).Flags)
	alter := wire.AlterTopic{Topic: "a.log", Settings: settings("b.*")}
	p.refused(wire.CodeForbidden, wire.OpAlterTopic, 0, alter.Append)
	alter.Settings = settings("none")
	require.Zero(t, p.call(wire.OpAlterTopic, 0, alter.Append).Flags)

	p = as("bob")
	p.refused(wire.CodeForbidden, wire.OpCreateTopic, 0, create("log", "a.*"))
	require.Zero(t, p.call(wire.OpCreateTopic, 0, create("log", "b.*")).Flags)

	b := newTextBroker(t, Options{Auth: picky(t, actionAdmin, "log")})
	require.Regexp(t, `FORBIDDEN: .*may not bind a topic to "secret"`, b.peer().ask("TOPIC log subjects=secret"))
}

// Whether a topic exists is told only to those who may see it.
func TestTextTopicTellsStrangersNothing(t *testing.T) {
	b := newTextBroker(t, Options{Auth: picky(t, actionAdmin, "mine")})
	b.topic("there")
	p := b.peer()
	require.Equal(t, `-ERR 'FORBIDDEN: user "u" may not create or change "there"'`, p.ask("TOPIC there"))
	require.Equal(t, `-ERR 'FORBIDDEN: user "u" may not create or change "none"'`, p.ask("TOPIC none"))
}

// A member whose user may no longer read the topic leaves its partitions to others.
func TestAMemberThatMayNoLongerReadIsOutOfItsGroup(t *testing.T) {
	c := auth.Config{Users: []auth.User{{Name: "ann"}, {Name: "bob", Password: "b"}}, NoAuthUser: "ann"}
	srv := startServer(t, Options{Auth: policy(t, c), RefusalDelay: -1})
	jobs(t, srv, 2)
	ann := member(t, srv, "a")
	require.Equal(t, []int{0, 1}, ann.has())
	bob := &groupPeer{peer: connect(t, srv), member: "b"}
	hello := wire.Hello{Mechanism: "plain", Credentials: []byte("bob\x00b")}
	bob.write(wire.AppendPreface(nil))
	require.Zero(t, bob.call(wire.OpHello, 0, hello.Append).Flags)
	c.Users[0].Permissions = &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"jobs"}}}
	srv.SetAuth(policy(t, c))
	require.Eventually(t, func() bool {
		f := ann.beat()
		return f.Flags&wire.FlagError != 0 && errorOf(t, wire.CodeForbidden, f) != nil
	}, waitLimit, time.Millisecond)
	bob.seen = assignedOf(t, bob.call(wire.OpJoinGroup, 0, (&wire.JoinGroup{Group: "g", Member: "b", Topics: []string{"jobs"}}).Append))
	require.Equal(t, []int{0, 1}, bob.has())
}

// Who may no longer read the topics of its member may still take it out of the group.
func TestAMemberMayLeaveWhatItMayNotRead(t *testing.T) {
	c := auth.Config{Users: []auth.User{{Name: "ann", Password: "a"}, {Name: "bob", Password: "b"}}}
	srv := startServer(t, Options{Auth: policy(t, c)})
	jobs(t, srv, 1)
	as := func(name string) *groupPeer {
		p := &groupPeer{peer: connect(t, srv), member: name}
		hello := wire.Hello{Mechanism: "plain", Credentials: []byte(name + "\x00" + name[:1])}
		p.write(wire.AppendPreface(nil))
		require.Zero(t, p.call(wire.OpHello, 0, hello.Append).Flags)
		p.seen = assignedOf(t, p.call(wire.OpJoinGroup, 0, (&wire.JoinGroup{Group: "g", Member: name, Topics: []string{"jobs"}}).Append))
		return p
	}
	ann := as("ann")
	c.Users[0].Permissions = &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"jobs"}}}
	srv.SetAuth(policy(t, c))
	require.Eventually(t, func() bool {
		seek := wire.SeekGroup{Group: "other", Topic: "jobs", Offsets: []wire.PartitionOffset{{}}}
		return ann.call(wire.OpSeekGroup, 0, seek.Append).Flags&wire.FlagError != 0
	}, waitLimit, time.Millisecond)
	require.Zero(t, ann.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "ann"}).Append).Flags)
	require.Equal(t, []int{0}, as("bob").has())
}

// Who may not read the topics of a member neither takes its place nor speaks for it.
func TestAMemberIsSpokenForByThoseWhoMayReadItsTopics(t *testing.T) {
	as := users(t, auth.User{Name: "root"}, limited("eve", "eve.*"))
	root, eve := &groupPeer{peer: as("root"), member: "a"}, as("eve")
	for _, topic := range []string{"jobs", "eve.own"} {
		root.resolve(topic)
	}
	join := wire.JoinGroup{Group: "g", Member: "a", Instance: "host", Topics: []string{"jobs"}}
	root.seen = assignedOf(t, root.call(wire.OpJoinGroup, 0, join.Append))
	require.Equal(t, []int{0}, root.has())

	join.Topics = []string{"eve.own"}
	e := eve.refused(wire.CodeForbidden, wire.OpJoinGroup, 0, join.Append) // with its id
	require.NotContains(t, e.Detail, "jobs")
	eve.refused(wire.CodeNotMember, wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: "a"}).Append)
	eve.refused(wire.CodeNotMember, wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "a"}).Append)
	join.Member = "b"
	eve.refused(wire.CodeForbidden, wire.OpJoinGroup, 0, join.Append) // with its instance
	join.Instance = "other"
	require.Zero(t, eve.call(wire.OpJoinGroup, 0, join.Append).Flags, "beside it")
	require.Zero(t, eve.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "b"}).Append).Flags)
	f := root.beat()
	require.Zero(t, f.Flags&wire.FlagError, "%q", f.Body)
	require.Equal(t, []int{0}, root.has())
}

// A record that is published later goes to live subscribers of its subject, which takes the right to that.
func TestASubjectOfAScheduledRecordNeedsTheRightToIt(t *testing.T) {
	eve := limited("eve", "orders")
	eve.Permissions.Publish.Allow = append(eve.Permissions.Publish.Allow, "orders.eu")
	as := users(t, auth.User{Name: "root"}, eve)
	root, p := as("root"), as("eve")
	create := wire.CreateTopic{Topic: "orders", Settings: []wire.Setting{{Key: "subjects", Value: "orders.*"}}}
	require.Zero(t, root.call(wire.OpCreateTopic, 0, create.Append).Flags)
	h := p.resolve("orders").Handle
	later := func(subject string, compress bool) func([]byte) []byte {
		var b wire.BatchBuilder
		b.Add(wire.Record{Value: []byte(strings.Repeat("v", 1000)), Subject: []byte(subject)})
		raw := b.Bytes()
		if compress {
			raw = b.AppendCompressed(nil, wire.CodecS2, codec.Compress(nil, wire.CodecS2, b.Records()))
		}
		return (&wire.Schedule{Handle: h, Items: []wire.ScheduleItem{{Kind: wire.ScheduleDelay, Ms: 3_600_000, Batch: raw}}}).Append
	}
	for _, compress := range []bool{false, true} {
		for _, subject := range []string{"", "orders.eu"} {
			require.Zero(t, p.call(wire.OpSchedule, 0, later(subject, compress)).Flags&wire.FlagError)
		}
		e := p.refused(wire.CodeForbidden, wire.OpSchedule, 0, later("orders.secret", compress))
		require.Equal(t, `user "eve" may not publish to "orders.secret"`, e.Detail)
	}
}

// A record of a publish that names a subject needs the right to that, wherever it stands in what arrives together.
func TestASubjectOfAPublishedRecordNeedsTheRightToIt(t *testing.T) {
	eve := limited("eve", "orders")
	eve.Permissions.Publish.Allow = append(eve.Permissions.Publish.Allow, "orders.*")
	eve.Permissions.Publish.Deny = []string{"orders.secret"}
	as := users(t, auth.User{Name: "root"}, eve)
	root, p := as("root"), as("eve")
	create := wire.CreateTopic{Topic: "orders", Settings: []wire.Setting{{Key: "durability", Value: "memory"}}}
	require.Zero(t, root.call(wire.OpCreateTopic, 0, create.Append).Flags)
	h := p.resolve("orders").Handle
	batch := func(subject string, compress bool) []byte {
		var b wire.BatchBuilder
		b.Add(wire.Record{Value: []byte("first")})
		b.Add(wire.Record{Value: []byte(strings.Repeat("v", 1000)), Subject: []byte(subject)})
		if !compress {
			return b.Bytes()
		}
		return b.AppendCompressed(nil, wire.CodecS2, codec.Compress(nil, wire.CodecS2, b.Records()))
	}
	frame := func(id uint32, batch []byte) []byte {
		return request1(wire.OpPublish, wire.Flags(wire.LevelMemory), id, publishBody(h, 0, batch))
	}
	for _, compress := range []bool{false, true} {
		for _, subject := range []string{"", "orders.eu"} {
			require.Zero(t, p.call(wire.OpPublish, 0, publishBody(h, 0, batch(subject, compress))).Flags&wire.FlagError)
		}
		secret := batch("orders.secret", compress)
		e := p.refused(wire.CodeForbidden, wire.OpPublish, 0, publishBody(h, 0, secret))
		require.Equal(t, `user "eve" may not publish to "orders.secret"`, e.Detail)
		p.write(slices.Concat(frame(101, batchOf("a")), frame(102, batchOf("b")), frame(103, secret), frame(104, batchOf("c"))))
		require.Zero(t, p.read().Flags&wire.FlagError)
		f := p.read()
		require.EqualValues(t, 103, f.Correlation)
		errorOf(t, wire.CodeForbidden, f)
		require.Zero(t, p.read().Flags&wire.FlagError)
		require.Zero(t, root.call(wire.OpPublish, 0, publishBody(root.resolve("orders").Handle, 0, secret)).Flags&wire.FlagError)
	}
}

// A client whose answer did not fit sends it again: that it was refused does not use up its right to.
func TestAnAnswerThatIsRefusedMayBeSentAgain(t *testing.T) {
	rights := &auth.Permissions{Responses: &auth.Responses{}}
	b, srv := newBench(t, Options{Auth: policy(t, auth.Config{Users: []auth.User{{Name: "u", Permissions: rights}}, NoAuthUser: "u"})})
	p, held := srv.registry.Topic("orders").Partition(0), &b.s.proto.(*binary).held
	b.s.replies = &auth.Replies{}
	b.s.replies.Note([]byte("orders"), b.s.who.Responses(), b.now)
	b.s.replies.Note([]byte("inbox"), b.s.who.Responses(), b.now)
	answer := wire.Live{Subject: []byte("orders"), Reply: []byte("inbox"), Payload: []byte("v")}
	*held = srv.opts.MaxInFlightBytes + 1
	b.feed(request1(wire.OpSend, 0, 10, answer.Append))
	*held, b.l.draining = 0, true
	b.feed(request1(wire.OpSend, 0, 11, answer.Append))
	require.Zero(t, p.Next())
	b.l.draining = false
	b.feed(request1(wire.OpSend, 0, 12, answer.Append))
	require.EqualValues(t, 1, p.Next())
	b.feed(request1(wire.OpSend, 0, 13, answer.Append))
	require.EqualValues(t, 1, p.Next(), "one answer was allowed")
}
