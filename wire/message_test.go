package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden vectors")

// body is a frame body of either side.
type message interface {
	Append(dst []byte) []byte
	Parse(b []byte) error
}

// vector is one frame with a known encoding.
type vector struct {
	name  string
	op    Op
	flags Flags
	body  message
	empty func() message // a fresh one to parse into
}

func of[T any, P interface {
	*T
	message
}](name string, op Op, flags Flags, v T) vector {
	return vector{name, op, flags, P(&v), func() message { return P(new(T)) }}
}

// wrapped gives value receivers the methods of message.
type (
	subscribeReply SubscribeReply
	credit         Credit
	unsubscribe    Unsubscribe
	settleReply    SettleReply
	scheduleReply  ScheduleReply
	schedule       Schedule
	numbered       Schedule
)

func (m *subscribeReply) Append(dst []byte) []byte { return SubscribeReply(*m).Append(dst) }
func (m *subscribeReply) Parse(b []byte) error     { return (*SubscribeReply)(m).Parse(b) }
func (m *credit) Append(dst []byte) []byte         { return Credit(*m).Append(dst) }
func (m *credit) Parse(b []byte) error             { return (*Credit)(m).Parse(b) }
func (m *unsubscribe) Append(dst []byte) []byte    { return Unsubscribe(*m).Append(dst) }
func (m *unsubscribe) Parse(b []byte) error        { return (*Unsubscribe)(m).Parse(b) }
func (m *schedule) Append(dst []byte) []byte       { return (*Schedule)(m).Append(dst) }
func (m *schedule) Parse(b []byte) error           { return (*Schedule)(m).Parse(b, Flags(LevelDisk)) }
func (m *numbered) Append(dst []byte) []byte       { return (*Schedule)(m).Append(dst) }
func (m *numbered) Parse(b []byte) error           { return (*Schedule)(m).Parse(b, FlagNumbered) }
func (m *scheduleReply) Append(dst []byte) []byte  { return ScheduleReply(*m).Append(dst) }
func (m *scheduleReply) Parse(b []byte) error      { return (*ScheduleReply)(m).Parse(b) }
func (m *settleReply) Append(dst []byte) []byte    { return SettleReply(*m).Append(dst) }
func (m *settleReply) Parse(b []byte) error        { return (*SettleReply)(m).Parse(b) }

var testTopic = [16]byte{0x01, 0x93, 0x4f, 0x1e, 0x5a, 0x00, 0x70, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0x2a}

func testBatch() []byte {
	var b BatchBuilder
	b.Add(Record{Key: []byte("alice"), Value: []byte("hello")})
	return bytes.Clone(b.Bytes())
}

func fullBatch() []byte {
	var b BatchBuilder
	b.Add(Record{
		Time: 1763800000000, Key: []byte("k"), Value: []byte{0xff, 0},
		Headers: Headers(nil).Append("a", []byte("1")).Append("a", nil), Subject: []byte("orders.eu"),
	})
	b.Add(Record{Time: 1763800000005, Key: []byte{}, Value: nil})
	b.Add(Record{Time: 1763800000000, Value: []byte{}})
	b.SetProducer(Producer{ID: 300, Epoch: 1, Sequence: 70000})
	return bytes.Clone(b.Bytes())
}

func testEntry(batch []byte) []byte {
	entry := append(make([]byte, StampBytes), batch...)
	view, err := ViewBatch(batch)
	if err != nil {
		panic(err)
	}
	st := Stamp{
		Length: uint32(len(batch)), Kind: KindData, Count: view.Count(), Term: 1, Index: 8, BaseOffset: 7, Time: 1763800000123,
	}
	st.Put(entry, Identity{Topic: testTopic, Partition: 2}.Seed())
	return entry
}

func vectors() []vector {
	ranges := []LeaseRange{{First: 7, Count: 3, Attempt: 1}, {First: 12, Count: 1, Attempt: 2}}
	settings := []Setting{{Key: "durability", Value: "disk"}, {Key: "retention", Value: "168h"}}
	info := TopicInfo{
		Topic: "orders", ID: testTopic, Settings: settings,
		Partitions: []PartitionInfo{{First: 1, Visible: 8, Next: 9, Bytes: 1234, Status: StatusReadOnly}},
	}
	entry := testEntry(testBatch())
	return []vector{
		of("hello", OpHello, 0, Hello{Name: "demo", Version: "1", Mechanism: "token", Credentials: []byte("secret")}),
		of("hello-reply", OpHello|OpReply, 0, HelloReply{
			ServerID: testTopic, ServerName: "rafka", ServerVersion: "0.1.0",
			MaxFrame: MaxFrameBytes, MaxRecord: DefaultMaxRecordBytes, IdleMs: 300000, MaxInFlight: 64 << 20,
		}),
		of("notice", OpNotice, 0, Notice{Code: CodeShutdown, GraceMs: 1000, Detail: "the broker is shutting down"}),
		of("error-reply", OpFetch|OpReply, FlagError, Error{
			Code: CodeOffsetOutOfRange, First: 5, Next: 9, Detail: "offset 10 is outside [5, 9]",
		}),
		of("resolve", OpResolve, FlagCreate, Resolve{Topic: "orders"}),
		of("resolve-reply", OpResolve|OpReply, 0, ResolveReply{
			Handle: 3, ID: testTopic, Partitions: 4, Level: LevelDisk, Hash: HashXXH64, MaxRecord: DefaultMaxRecordBytes,
		}),
		of("create-topic", OpCreateTopic, FlagIfNotExists, CreateTopic{Topic: "orders", Partitions: 4, Settings: settings}),
		of("topic-info", OpCreateTopic|OpReply, 0, info),
		of("list-topics", OpListTopics, 0, ListTopics{After: "a", Limit: 100}),
		of("list-topics-reply", OpListTopics|OpReply, 0, TopicList{Topics: []TopicInfo{info}, More: true}),
		of("purge-topic", OpPurgeTopic, 0, PurgeTopic{Topic: "orders", Partition: AnyPartition, Before: 1 << 40}),
		of("publish", OpPublish, Flags(LevelDisk), Publish{Handle: 3, Partition: 2, Batch: testBatch()}),
		of("schedule-numbered", OpSchedule, Flags(LevelDisk)|FlagNumbered, numbered{
			Handle: 3, Partition: 2, Producer: Producer{ID: 1 << 60, Epoch: 1, Sequence: 70000},
			Items: []ScheduleItem{{Kind: ScheduleAt, Ms: 1763800000123, Spec: []byte{}, Zone: []byte{}, Batch: testBatch()}},
		}),
		of("schedule", OpSchedule, Flags(LevelDisk), schedule{Handle: 3, Partition: 2, Items: []ScheduleItem{
			{Kind: ScheduleDelay, Ms: 600_000, Spec: []byte{}, Zone: []byte{}, Batch: testBatch()},
			{Kind: ScheduleCron, Spec: []byte("0 9 * * 1-5"), Zone: []byte("Europe/Berlin"), Batch: testBatch()},
		}}),
		of("schedule-reply", OpSchedule|OpReply, Flags(LevelDisk), scheduleReply{First: 8}),
		of("schedules", OpSchedules, 0, Schedules{Handle: 3, Partition: 2, AfterDue: 1763800000123, AfterID: 8, Limit: 100}),
		of("schedules-reply", OpSchedules|OpReply, 0, ScheduleList{Total: 9, Items: []ScheduleInfo{
			{ID: 8, Due: 1763800000123, Spec: "0 9 * * 1-5", Zone: "Europe/Berlin", Batch: testBatch()},
		}}),
		of("cancel", OpCancel, 0, Cancel{Handle: 3, Partition: 2, IDs: []uint64{8, 9}}),
		of("fetch", OpFetch, 0, Fetch{
			Handle: 3, Partition: 2, From: Position{PositionOffset, 7}, MinBytes: 1, MaxBytes: 1 << 20, MaxWaitMs: 500, Group: "g",
		}),
		of("fetch-reply", OpFetch|OpReply, 0, Entries{First: 1, Visible: 8, Next: 8, Bytes: entry}),
		of("subscribe", OpSubscribe, 0, Subscribe{
			Handle: 3, Partition: 2, From: Position{PositionTime, 1763800000000}, Credit: 1 << 20, MaxBytes: 1 << 18, Group: "",
		}),
		of("subscribe-reply", OpSubscribe|OpReply, 0, subscribeReply{Offset: 7}),
		of("deliver", OpDeliver, 0, Entries{First: 1, Visible: 8, Next: 8, Bytes: entry}),
		of("credit", OpCredit, 0, credit{Subscription: 9, Bytes: 65536}),
		of("unsubscribe", OpUnsubscribe, 0, unsubscribe{Subscription: 9}),
		of("offsets", OpOffsets, 0, Offsets{Handle: 3, Partition: 2, From: Position{Kind: PositionLast}, Group: "g"}),
		of("offsets-reply", OpOffsets|OpReply, 0, OffsetsReply{Offset: 7, First: 1, Visible: 8}),
		of("fetch-filter", OpFetch, 0, Fetch{
			Handle: 3, MaxBytes: 65536, Filter: Filter{{Op: FilterEqual, Name: "type", Value: "invoice"}, {Op: FilterMissing, Name: "test"}},
		}),
		of("get", OpGet, 0, Get{Handle: 3, Partition: 2, Key: []byte("alice")}),
		of("open-queue", OpOpenQueue, 0, OpenQueue{
			Handle: 3, Group: "workers", Start: Position{Kind: PositionFirst}, LeaseMs: 30000,
			BackoffMinMs: 1000, BackoffMaxMs: 300000, MaxDeliveries: 5, DeadLetter: "dead",
		}),
		of("open-queue-ordered", OpOpenQueue, FlagOrderByKey, OpenQueue{Handle: 3, Group: "workers"}),
		of("pending", OpPending, 0, Pending{Handle: 3, Partition: 2, Group: "workers", From: 7, Limit: 100}),
		of("pending-reply", OpPending|OpReply, 0, PendingReply{Ranges: []PendingRange{
			{First: 7, Count: 3, Attempts: 1, Phase: PhaseLeased, Due: 1763800000123}, {First: 12, Count: 1 << 40},
		}}),
		of("discard", OpDiscard, 0, Settle{Handle: 3, Partition: 2, Group: []byte("workers"), Ranges: []LeaseRange{{First: 7, Count: 3}}, Reason: []byte{}}),
		of("lease", OpLease, 0, Lease{
			Handle: 3, Partition: AnyPartition, Group: []byte("workers"), MaxMessages: 100, MaxBytes: 1 << 20, MaxWaitMs: 500, LeaseMs: 1000,
		}),
		of("lease-reply", OpLease|OpReply, 0, Leased{Partition: 2, Ranges: ranges, Bytes: entry}),
		of("ack", OpAck, 0, Settle{Handle: 3, Partition: 2, Group: []byte("workers"), Ranges: ranges, Reason: []byte{}}),
		of("nack", OpNack, 0, Settle{Handle: 3, Partition: 2, Group: []byte("workers"), Ranges: ranges, Ms: -1, Reason: []byte("busy")}),
		of("nack-unhandled", OpNack, FlagUnhandled, Settle{Handle: 3, Partition: 2, Group: []byte("workers"), Ranges: ranges, Reason: []byte{}}),
		of("settle-reply", OpAck|OpReply, 0, settleReply{Lost: 1}),
		of("commit", OpCommit, 0, Commit{Handle: 3, Group: []byte("audit"), Offsets: []PartitionOffset{{0, 7}, {2, 9}}}),
		of("committed", OpCommitted, 0, Committed{Handle: 3, Group: "audit"}),
		of("committed-reply", OpCommitted|OpReply, 0, CommittedReply{Offsets: []CommittedOffset{{2, 9, 1763800000000}}}),
		of("groups", OpGroups, 0, Groups{Group: "audit"}),
		of("join-group", OpJoinGroup, 0, JoinGroup{
			Group: "audit", Member: "m-1", Instance: "host-7", SessionMs: 10000, HandoverMs: 30000,
			Topics: []string{"orders", "returns"}, Claims: []TopicPartitions{{"orders", []uint16{0, 2}}},
		}),
		of("assigned", OpAssigned, 0, Assigned{Revision: 65538, Topics: []AssignedTopic{
			{"orders", []AssignedPartition{{0, 65537, false}, {2, 65538, true}}},
		}}),
		of("heartbeat", OpHeartbeat, 0, Heartbeat{
			Group: "audit", Member: "m-1", Revision: 65538, Busy: []TopicPartitions{{"returns", []uint16{1}}},
		}),
		of("heartbeat-reply", OpHeartbeat|OpReply, FlagUnchanged, Assigned{Revision: 65538, Topics: []AssignedTopic{}}),
		of("leave-group", OpLeaveGroup, 0, LeaveGroup{Group: "audit", Member: "m-1"}),
		of("seek-group", OpSeekGroup, 0, SeekGroup{Group: "audit", Topic: "orders", Offsets: []PartitionOffset{{2, 9}}}),
		of("pause-group", OpPauseGroup, 0, PauseGroup{Group: "audit", Topic: "orders", Pause: true}),
		of("commit-member", OpCommit, 0, Commit{Handle: 3, Group: []byte("audit"), Generation: 65537, Offsets: []PartitionOffset{{0, 7}}}),
		of("members", OpMembers, 0, Groups{Group: "audit"}),
		of("send", OpSend, FlagNoResponders, Live{
			Subject: []byte("orders.eu"), Reply: []byte("_INBOX.7"), Header: []byte("NATS/1.0\r\nA: 1\r\n\r\n"), Payload: []byte("hi"),
		}),
		of("listen", OpListen, 0, Listen{Pattern: "orders.*", Queue: "workers"}),
		of("unlisten", OpUnlisten, 0, Unlisten{Subscription: 9, Max: 3}),
		of("message", OpMessage, 0, Live{Subject: []byte("orders.eu"), Reply: []byte{}, Header: []byte{}, Payload: []byte("hi")}),
		of("delete-group", OpDeleteGroup, 0, DeleteGroup{Group: "audit", Topic: "orders"}),
	}
}

func (v *vector) frame() []byte {
	b, at := BeginFrame(nil, v.op, v.flags, 0x01020304)
	return EndFrame(v.body.Append(b), at)
}

// openEnded bodies end with bytes that are not described here: truncating them may leave a body that
// is whole.
var openEnded = map[string]bool{"publish": true, "fetch-reply": true, "deliver": true, "lease-reply": true, "error-reply": true, "send": true, "message": true, "get": true}

func TestEveryMessageRoundTripsAndRefusesEveryCut(t *testing.T) {
	for _, v := range vectors() {
		t.Run(v.name, func(t *testing.T) {
			f, rest, need, ok, err := NextFrame(v.frame(), MaxFrameBytes)
			require.NoError(t, err)
			require.True(t, ok)
			require.Empty(t, rest)
			require.Equal(t, len(v.frame()), need)
			require.Equal(t, []any{v.op, v.flags, uint32(0x01020304)}, []any{f.Op, f.Flags, f.Correlation})
			got := v.empty()
			require.NoError(t, got.Parse(f.Body))
			require.Equal(t, v.body, got)
			if openEnded[v.name] {
				return
			}
			for cut := range f.Body {
				require.ErrorIs(t, v.empty().Parse(f.Body[:cut]), ErrMalformed, "cut at %d", cut)
			}
			require.ErrorIs(t, v.empty().Parse(append(bytes.Clone(f.Body), 0)), ErrMalformed, "trailing byte")
		})
	}
}

// golden compares bytes with a vector in testdata.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(dump(b)), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), dump(b), "%s changed: that breaks every client and every data directory", name)
}

// dump is hex in lines of 32 bytes.
func dump(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		fmt.Fprintln(&s, hex.EncodeToString(b[:n]))
		b = b[n:]
	}
	return s.String()
}

func TestEveryMessageKeepsItsBytes(t *testing.T) {
	for _, v := range vectors() {
		golden(t, v.name, v.frame())
	}
	golden(t, "batch", testBatch())
	golden(t, "batch-full", fullBatch())
	golden(t, "batch-once", onceBatch())
	golden(t, "entry", testEntry(testBatch()))
	golden(t, "preface", AppendPreface(nil))
	for name, r := range map[string]PublishReply{"publish-reply": {Base: 7}, "publish-reply-range": {Base: 7, Extra: 299}} {
		flags := Flags(LevelDisk)
		if r.Extra > 0 {
			flags |= FlagRange
		}
		b, at := BeginFrame(nil, OpPublish|OpReply, flags, 5)
		golden(t, name, EndFrame(r.Append(b, flags), at))
	}
}

// TestTheDocumentQuotesTheVectors keeps docs/protocol.md and the code from drifting apart.
func TestTheDocumentQuotesTheVectors(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	require.NoError(t, err)
	doc := string(page)
	quoted := 0
	for _, name := range []string{"preface", "publish", "publish-reply", "publish-reply-range", "batch", "batch-full", "batch-once", "entry", "error-reply", "resolve", "join-group", "schedule-numbered"} {
		want, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
		require.NoError(t, err)
		require.Contains(t, doc, string(want), name)
		quoted++
	}
	require.Equal(t, 12, quoted)
	for c, info := range codes {
		row := fmt.Sprintf("| %d | %s | %s | %s", c, info.name, []string{"never", "later", "unknown"}[info.retry], info.sentence)
		require.Contains(t, doc, row)
	}
	for op, name := range opNames {
		require.Regexp(t, fmt.Sprintf("`0x%02x` \\| `?%s`?", uint8(op), name), doc)
	}
	for _, limit := range []int{
		MaxFrameBytes, MaxReplyBytes, MaxHelloBytes, DefaultMaxRecordBytes, MaxRecordBytes, MaxTopicName, MaxKeyBytes, MaxSubjectBytes,
		MaxPartitions, MaxBatchRecords, MaxDecompressedBytes, MaxDetailBytes, MaxReasonBytes, MaxWaitMs,
	} {
		require.Regexp(t, fmt.Sprintf(`\| %d \|`, limit), doc)
	}
}

func TestPublishRepliesRoundTrip(t *testing.T) {
	f := func(want PublishReply, flags Flags) {
		t.Helper()
		b := want.Append(nil, flags)
		var got PublishReply
		require.NoError(t, got.Parse(b, flags))
		require.Equal(t, want, got)
		for cut := range b {
			require.ErrorIs(t, got.Parse(b[:cut], flags), ErrMalformed)
		}
		require.ErrorIs(t, got.Parse(append(b, 0), flags), ErrMalformed)
	}
	f(PublishReply{}, 0)
	f(PublishReply{Base: 1<<64 - 1}, 0)
	f(PublishReply{Base: 127, Extra: 1}, FlagRange)
	f(PublishReply{Base: 128, Extra: 1<<32 - 1}, FlagRange)
	var m PublishReply
	require.ErrorIs(t, m.Parse([]byte{1, 0}, FlagRange), ErrMalformed, "a range of one")
}

func TestFramesAreSplitAtEveryByte(t *testing.T) {
	v := vectors()[0]
	frame := v.frame()
	for cut := range frame {
		_, _, need, ok, err := NextFrame(frame[:cut], MaxFrameBytes)
		require.NoError(t, err)
		require.False(t, ok)
		if cut >= 4 {
			require.Equal(t, len(frame), need)
		}
	}
	_, rest, _, ok, err := NextFrame(append(bytes.Clone(frame), "rest"...), MaxFrameBytes)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "rest", string(rest))
	for _, n := range []uint32{0, 1, 5} {
		_, _, _, _, err = NextFrame(le.AppendUint32(nil, n), MaxFrameBytes)
		require.ErrorIs(t, err, ErrMalformed)
	}
	for _, n := range []uint32{MaxFrameBytes - 3, 1 << 31, 1<<32 - 1} {
		_, _, _, _, err = NextFrame(le.AppendUint32(nil, n), MaxFrameBytes)
		require.ErrorIs(t, err, ErrFrameTooLarge)
	}
}

func TestPrefacesAreChecked(t *testing.T) {
	p := AppendPreface(nil)
	require.Len(t, p, PrefaceBytes)
	require.True(t, IsBinary(p[0]))
	for cut := range p {
		_, err := ParsePreface(p[:cut])
		require.ErrorIs(t, err, ErrMalformed)
	}
	for i := range p {
		bad := bytes.Clone(p)
		bad[i] ^= 0x10
		version, err := ParsePreface(bad)
		require.True(t, err != nil || version != Version, "byte %d", i)
	}
}

func TestCodesAreErrors(t *testing.T) {
	e := Errorf(CodeTopicNotFound, "topic %q does not exist", "x")
	require.ErrorIs(t, e, CodeTopicNotFound)
	require.NotErrorIs(t, e, CodeInvalid)
	require.Equal(t, `TOPIC_NOT_FOUND: topic "x" does not exist`, e.Error())
	require.Equal(t, CodeTopicNotFound, CodeOf(fmt.Errorf("wrapped: %w", e)))
	require.Equal(t, CodeInternal, CodeOf(os.ErrNotExist))
	require.Equal(t, CodeOK, CodeOf(nil))
	names := map[string]bool{}
	for _, info := range codes {
		require.False(t, names[info.name], info.name)
		require.NotEmpty(t, info.sentence)
		names[info.name] = true
	}
	long := Error{Code: CodeInvalid, Detail: strings.Repeat("x", 5000)}
	var back Error
	require.NoError(t, back.Parse(long.Append(nil)))
	require.Len(t, back.Detail, MaxDetailBytes)
}

// FuzzBodies parses every kind of body from any bytes: no panic, and what parses is canonical.
func FuzzBodies(f *testing.F) {
	all := vectors()
	for i, v := range all {
		f.Add(uint8(i), v.body.Append(nil))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := all[int(kind)%len(all)].empty()
		if m.Parse(b) == nil {
			require.Equal(t, b, append([]byte{}, m.Append(nil)...))
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, v := range vectors() {
		f.Add(v.frame())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, rest, need, ok, err := NextFrame(b, MaxFrameBytes)
		switch {
		case err != nil:
		case ok:
			require.Equal(t, b, append(append(AppendHeader(nil, frame.Op, frame.Flags, frame.Correlation, len(frame.Body)), frame.Body...), rest...))
		default:
			require.True(t, need == 0 || need > len(b))
		}
	})
}
