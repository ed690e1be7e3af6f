package server

import (
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// operation is one row of the operation table.
type operation struct {
	// handle serves a frame whose body it may view until it returns. An error is answered as it is;
	// a handler that answers later returns nil.
	handle func(b *binary, f wire.Frame, now time.Time) error
	// action is what the user must be allowed to do. Handlers ask once the topic is known.
	action Action
	// flags are those a client may set.
	flags wire.Flags
}

// operations is indexed by wire.Op. What is not in it is answered with CodeUnsupported.
var operations = [256]operation{
	wire.OpHello: {(*binary).hello, ActionNone, 0},
	wire.OpPing:  {(*binary).ping, ActionNone, 0},

	wire.OpResolve:       {(*binary).resolve, ActionDescribe, wire.FlagCreate},
	wire.OpCreateTopic:   {(*binary).createTopic, ActionAdmin, wire.FlagIfNotExists},
	wire.OpListTopics:    {(*binary).listTopics, ActionDescribe, 0},
	wire.OpDescribeTopic: {(*binary).describeTopic, ActionDescribe, 0},
	wire.OpAlterTopic:    {(*binary).alterTopic, ActionAdmin, 0},
	wire.OpDeleteTopic:   {(*binary).deleteTopic, ActionAdmin, 0},
	wire.OpPurgeTopic:    {(*binary).purgeTopic, ActionAdmin, 0},

	wire.OpPublish: {(*binary).servePublish, ActionPublish, wire.FlagLevel},

	wire.OpFetch:       {(*binary).fetch, ActionConsume, 0},
	wire.OpSubscribe:   {(*binary).subscribe, ActionConsume, 0},
	wire.OpCredit:      {(*binary).credit, ActionNone, 0},
	wire.OpUnsubscribe: {(*binary).unsubscribe, ActionNone, 0},
	wire.OpOffsets:     {(*binary).offsets, ActionConsume, 0},

	wire.OpOpenQueue: {(*binary).openQueue, ActionConsume, 0},
	wire.OpLease:     {(*binary).lease, ActionConsume, 0},
	wire.OpAck:       {(*binary).settleLeases, ActionConsume, 0},
	wire.OpNack:      {(*binary).settleLeases, ActionConsume, 0},
	wire.OpReject:    {(*binary).settleLeases, ActionConsume, 0},
	wire.OpExtend:    {(*binary).settleLeases, ActionConsume, 0},

	wire.OpCommit:      {(*binary).commitOffsets, ActionConsume, 0},
	wire.OpCommitted:   {(*binary).committed, ActionConsume, 0},
	wire.OpGroups:      {(*binary).listGroups, ActionDescribe, 0},
	wire.OpDeleteGroup: {(*binary).deleteGroup, ActionAdmin, 0},

	wire.OpStats: {(*binary).stats, ActionDescribe, 0},
}

// hello logs the peer in and tells it the limits.
func (b *binary) hello(f wire.Frame, _ time.Time) error {
	if b.ready {
		return wire.Errorf(wire.CodeInvalid, "the connection said hello before")
	}
	var m wire.Hello
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	srv := b.s.loop.srv
	user, err := srv.opts.Authorizer.Login(Credentials{
		Mechanism: m.Mechanism, Secret: m.Credentials, Remote: b.s.t.RemoteAddr().String(),
	})
	if err != nil {
		b.fail(f.Op, f.Correlation, wire.Errorf(wire.CodeUnauthenticated, "login refused"))
		b.s.close()
		return nil
	}
	b.s.user, b.s.name, b.ready = user, m.Name, true
	defaults := srv.registry.Defaults()
	reply := wire.HelloReply{
		Version: wire.Version, ServerID: srv.id, ServerName: srv.opts.Name, ServerVersion: srv.opts.Version,
		MaxFrame: wire.MaxFrameBytes, MaxRecord: uint32(defaults.MaxRecord),
		IdleMs: uint32(srv.opts.IdleTimeout.Milliseconds()), MaxInFlight: uint32(srv.opts.MaxInFlightBytes),
	}
	b.reply(f, 0, reply.Append)
	return nil
}

// ping answers with the same body.
func (b *binary) ping(f wire.Frame, _ time.Time) error {
	b.reply(f, 0, func(dst []byte) []byte { return append(dst, f.Body...) })
	return nil
}

// stats answers with what the broker counts, as JSON.
func (b *binary) stats(f wire.Frame, now time.Time) error {
	if len(f.Body) != 0 {
		return wire.ErrMalformed
	}
	if err := b.allowed(ActionDescribe, ""); err != nil {
		return err
	}
	body := b.s.loop.statsJSON(now)
	b.reply(f, 0, func(dst []byte) []byte { return append(dst, body...) })
	return nil
}
