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
	action Action
	// flags are the flags that a client may set.
	flags wire.Flags
}

// operations is indexed by wire.Op. Other operations are answered with CodeUnsupported.
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

	wire.OpPublish:   {(*binary).servePublish, ActionPublish, wire.FlagLevel},
	wire.OpSchedule:  {(*binary).scheduleLater, ActionPublish, wire.FlagLevel | wire.FlagNumbered},
	wire.OpSchedules: {(*binary).listSchedules, ActionConsume, 0},
	wire.OpCancel:    {(*binary).cancelScheduled, ActionPublish, 0},

	wire.OpFetch:       {(*binary).fetch, ActionConsume, 0},
	wire.OpSubscribe:   {(*binary).subscribe, ActionConsume, 0},
	wire.OpCredit:      {(*binary).credit, ActionNone, 0},
	wire.OpUnsubscribe: {(*binary).unsubscribe, ActionNone, 0},
	wire.OpOffsets:     {(*binary).offsets, ActionConsume, 0},
	wire.OpGet:         {(*binary).get, ActionConsume, 0},

	wire.OpOpenQueue: {(*binary).openQueue, ActionConsume, wire.FlagOrderByKey},
	wire.OpLease:     {(*binary).lease, ActionConsume, 0},
	wire.OpAck:       {(*binary).settleLeases, ActionConsume, 0},
	wire.OpNack:      {(*binary).settleLeases, ActionConsume, wire.FlagUnhandled},
	wire.OpReject:    {(*binary).settleLeases, ActionConsume, 0},
	wire.OpExtend:    {(*binary).settleLeases, ActionConsume, 0},
	wire.OpPending:   {(*binary).pending, ActionConsume, 0},
	wire.OpDiscard:   {(*binary).settleLeases, ActionConsume, 0},

	wire.OpCommit:      {(*binary).commitOffsets, ActionConsume, 0},
	wire.OpCommitted:   {(*binary).committed, ActionConsume, 0},
	wire.OpGroups:      {(*binary).listGroups, ActionDescribe, 0},
	wire.OpDeleteGroup: {(*binary).deleteGroup, ActionAdmin, 0},
	wire.OpJoinGroup:   {(*binary).joinGroup, ActionConsume, 0},
	wire.OpHeartbeat:   {(*binary).heartbeat, ActionNone, 0},
	wire.OpLeaveGroup:  {(*binary).leaveGroup, ActionNone, 0},
	wire.OpSeekGroup:   {(*binary).seekGroup, ActionConsume, 0},
	wire.OpPauseGroup:  {(*binary).pauseGroup, ActionConsume, 0},
	wire.OpMembers:     {(*binary).listMembers, ActionDescribe, 0},

	wire.OpSend:     {(*binary).sendLive, ActionPublish, wire.FlagNoResponders | wire.FlagNoEcho},
	wire.OpListen:   {(*binary).listen, ActionConsume, 0},
	wire.OpUnlisten: {(*binary).unlisten, ActionNone, 0},

	wire.OpStats: {(*binary).stats, ActionDescribe, 0},
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
	if err := b.allowed(ActionDescribe, ""); err != nil {
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
