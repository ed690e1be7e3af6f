package server

import (
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// operation is one row of the operation table.
type operation struct {
	// handle serves a frame. It may use the frame's body until it returns. Its error is sent as the reply; a handler
	// that replies itself, now or later, returns nil.
	handle func(b *binary, f wire.Frame, now time.Time) error
	// action is the permission that the request needs. The handler checks it, when the topic is known; a test checks
	// that it does.
	action action
	// flags are the flags that a client may set.
	flags wire.Flags
}

// operations is indexed by wire.Op. Other operations are answered with CodeUnsupported.
var operations = [256]operation{
	wire.OpHello: {(*binary).hello, actionNone, 0},
	wire.OpPing:  {(*binary).ping, actionNone, 0},

	wire.OpResolve:       {(*binary).resolve, actionDescribe, wire.FlagCreate},
	wire.OpCreateTopic:   {(*binary).createTopic, actionAdmin, wire.FlagIfNotExists},
	wire.OpListTopics:    {(*binary).listTopics, actionDescribe, 0},
	wire.OpDescribeTopic: {(*binary).describeTopic, actionDescribe, 0},
	wire.OpAlterTopic:    {(*binary).alterTopic, actionAdmin, 0},
	wire.OpDeleteTopic:   {(*binary).deleteTopic, actionAdmin, 0},
	wire.OpPurgeTopic:    {(*binary).purgeTopic, actionAdmin, 0},

	wire.OpPublish:   {(*binary).servePublish, actionPublish, wire.FlagLevel},
	wire.OpSchedule:  {(*binary).scheduleLater, actionPublish, wire.FlagLevel | wire.FlagNumbered},
	wire.OpSchedules: {(*binary).listSchedules, actionConsume, 0},
	wire.OpCancel:    {(*binary).cancelScheduled, actionPublish, 0},

	wire.OpFetch:       {(*binary).fetch, actionConsume, 0},
	wire.OpSubscribe:   {(*binary).subscribe, actionConsume, 0},
	wire.OpCredit:      {(*binary).credit, actionNone, 0},
	wire.OpUnsubscribe: {(*binary).unsubscribe, actionNone, 0},
	wire.OpOffsets:     {(*binary).offsets, actionConsume, 0},
	wire.OpGet:         {(*binary).get, actionConsume, 0},

	wire.OpOpenQueue: {(*binary).openQueue, actionConsume, wire.FlagOrderByKey},
	wire.OpLease:     {(*binary).lease, actionConsume, 0},
	wire.OpAck:       {(*binary).settleLeases, actionConsume, 0},
	wire.OpNack:      {(*binary).settleLeases, actionConsume, wire.FlagUnhandled},
	wire.OpReject:    {(*binary).settleLeases, actionConsume, 0},
	wire.OpExtend:    {(*binary).settleLeases, actionConsume, 0},
	wire.OpPending:   {(*binary).pending, actionConsume, 0},
	wire.OpDiscard:   {(*binary).settleLeases, actionConsume, 0},

	wire.OpCommit:      {(*binary).commitOffsets, actionConsume, 0},
	wire.OpCommitted:   {(*binary).committed, actionConsume, 0},
	wire.OpGroups:      {(*binary).listGroups, actionDescribe, 0},
	wire.OpDeleteGroup: {(*binary).deleteGroup, actionAdmin, 0},
	wire.OpJoinGroup:   {(*binary).joinGroup, actionConsume, 0},
	wire.OpHeartbeat:   {(*binary).heartbeat, actionNone, 0},
	wire.OpLeaveGroup:  {(*binary).leaveGroup, actionNone, 0},
	wire.OpSeekGroup:   {(*binary).seekGroup, actionConsume, 0},
	wire.OpPauseGroup:  {(*binary).pauseGroup, actionConsume, 0},
	wire.OpMembers:     {(*binary).listMembers, actionDescribe, 0},

	wire.OpSend:     {(*binary).sendLive, actionPublish, wire.FlagNoResponders | wire.FlagNoEcho},
	wire.OpListen:   {(*binary).listen, actionConsume, 0},
	wire.OpUnlisten: {(*binary).unlisten, actionNone, 0},

	wire.OpStats: {(*binary).stats, actionDescribe, 0},
}

// ping answers with the same body.
func (b *binary) ping(f wire.Frame, _ time.Time) error {
	b.reply(f, func(dst []byte) []byte { return append(dst, f.Body...) })
	return nil
}

// stats answers with the broker's statistics as JSON.
func (b *binary) stats(f wire.Frame, now time.Time) error {
	if len(f.Body) != 0 {
		return wire.ErrMalformed
	}
	if err := b.allowed(actionDescribe, ""); err != nil {
		return err
	}
	l := b.s.loop
	l.settleTurn(now) // the statistics include the current turn
	return b.work(f.Op, f.Correlation, func() (func(time.Time) error, error) {
		body := l.srv.statsJSON(now)
		return func(time.Time) error {
			b.replyTo(wire.OpStats, f.Correlation, 0, func(dst []byte) []byte { return append(dst, body...) })
			return nil
		}, nil
	})
}
