package client

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Position says where reading starts in a partition. The zero value is Start. The positions that
// refer to a committed offset need a group.
type Position struct {
	kind  positionKind
	value uint64 // an offset, a Unix time in ms, or a distance in messages
}

type positionKind uint8

const (
	fromStart positionKind = iota
	fromEnd
	fromLast
	fromOffset
	fromTime
	fromCommitted
	afterStart      // value messages after the start
	beforeEnd       // value messages before the end
	afterCommitted  // value messages after the committed offset
	beforeCommitted // value messages before the committed offset
)

// Start is the first message that is stored.
func Start() Position { return Position{} }

// End is after the last message that is visible now: only later messages are read.
func End() Position { return Position{kind: fromEnd} }

// Last is the last message that is visible now.
func Last() Position { return Position{kind: fromLast} }

// At is the message with an offset.
func At(offset uint64) Position { return Position{kind: fromOffset, value: offset} }

// Since is the first batch that the broker stored at t or later, in whole milliseconds.
func Since(t time.Time) Position {
	return Position{kind: fromTime, value: uint64(max(0, t.UnixMilli()))}
}

// Committed is the group's committed offset, or the start when the group has not committed.
func Committed() Position { return Position{kind: fromCommitted} }

// AfterStart is n messages after the start, but not beyond the end.
func AfterStart(n uint64) Position { return Position{kind: afterStart, value: n} }

// BeforeEnd is n messages before the end, but not before the start.
func BeforeEnd(n uint64) Position { return Position{kind: beforeEnd, value: n} }

// AfterCommitted is n messages after the group's committed offset, but not beyond the end.
func AfterCommitted(n uint64) Position { return Position{kind: afterCommitted, value: n} }

// BeforeCommitted is n messages before the group's committed offset, but not before the start.
func BeforeCommitted(n uint64) Position { return Position{kind: beforeCommitted, value: n} }

// timeLayouts are the times that ParsePosition accepts besides RFC 3339. They are local times.
var timeLayouts = [...]string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"}

// ParsePosition parses a position as it is written on the command line:
//
//	start  end  last  committed   the position of that name
//	12345                         an offset
//	+10  -10                      ten messages after the start, ten before the end
//	committed+1  committed-10     messages after or before the group's committed offset
//	@2026-11-22T10:00             a time: RFC 3339, or a local time or date without a zone
//	@-1h  @-2d                    a time before now: hours and the like of time.ParseDuration, days, or 1d12h
func ParsePosition(s string) (Position, error) { return parsePosition(s, time.Now()) }

func parsePosition(s string, now time.Time) (Position, error) {
	switch s {
	case "start", "first":
		return Start(), nil
	case "end":
		return End(), nil
	case "last":
		return Last(), nil
	case "committed":
		return Committed(), nil
	}
	if t, ok := strings.CutPrefix(s, "@"); ok {
		return parseTime(t, now)
	}
	if d, ok := strings.CutPrefix(s, "committed+"); ok {
		return distance(afterCommitted, d, s)
	}
	if d, ok := strings.CutPrefix(s, "committed-"); ok {
		return distance(beforeCommitted, d, s)
	}
	if d, ok := strings.CutPrefix(s, "+"); ok {
		return distance(afterStart, d, s)
	}
	if d, ok := strings.CutPrefix(s, "-"); ok {
		return distance(beforeEnd, d, s)
	}
	return distance(fromOffset, s, s)
}

// distance parses the digits of s, the whole position.
func distance(kind positionKind, digits, s string) (Position, error) {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || strings.HasPrefix(digits, "+") {
		return Position{}, fmt.Errorf("client: bad position %q: want start, end, last, committed, 12345, +10, -10, committed+1, @2026-11-22T10:00 or @-1h", s)
	}
	return Position{kind: kind, value: n}, nil
}

// Range is from one position up to, and not including, another.
type Range struct {
	From, To Position
	Bounded  bool // reading ends at To; otherwise To is ignored
}

// ParseRange parses a position, or a range A:B of two positions. A missing A is the start, and a
// missing B the end. A colon in a time is not taken for that of a range: @2026-11-22T10:00:30 is a
// position.
func ParseRange(s string) (Range, error) { return parseRange(s, time.Now()) }

func parseRange(s string, now time.Time) (Range, error) {
	from, err := parsePosition(s, now)
	if err == nil || !strings.Contains(s, ":") {
		return Range{From: from}, err
	}
	var found []Range
	for i := range len(s) {
		if s[i] != ':' {
			continue
		}
		if r, ok := rangeOf(s[:i], s[i+1:], now); ok {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		return Range{}, fmt.Errorf("client: bad range %q: want A:B, two positions such as 100:200 or @-2h:@-1h", s)
	}
	if found[0].reversed() {
		return Range{}, fmt.Errorf("client: bad range %q: it ends before it begins", s)
	}
	return found[0], nil
}

// reversed reports whether r holds nothing, whatever is stored, because its positions are in the wrong order.
func (r Range) reversed() bool {
	a, b := r.From, r.To
	switch {
	case a.kind != b.kind:
		return a.kind == fromEnd || b.kind == fromStart
	case a.kind == beforeEnd || a.kind == beforeCommitted:
		return a.value < b.value
	}
	return a.value > b.value
}

func rangeOf(a, b string, now time.Time) (r Range, ok bool) {
	r.Bounded, r.To = true, End()
	var errA, errB error
	if a != "" {
		r.From, errA = parsePosition(a, now)
	}
	if b != "" {
		r.To, errB = parsePosition(b, now)
	}
	return r, errA == nil && errB == nil && (a != "" || b != "")
}

// String returns the range as ParseRange accepts it.
func (r Range) String() string {
	if !r.Bounded {
		return r.From.String()
	}
	return r.From.String() + ":" + r.To.String()
}

func parseTime(s string, now time.Time) (Position, error) {
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		d, err := wire.ParseDuration(ago)
		if err != nil {
			return Position{}, fmt.Errorf("client: bad time %q: want a duration such as @-90m or @-2d", "@"+s)
		}
		return Since(now.Add(-d)), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return Since(t), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return Since(t), nil
		}
	}
	return Position{}, fmt.Errorf("client: bad time %q: want @2026-11-22T10:00, @2026-11-22T10:00:00Z or @-1h", "@"+s)
}

// String returns the position as ParsePosition accepts it.
func (p Position) String() string {
	switch p.kind {
	case fromEnd:
		return "end"
	case fromLast:
		return "last"
	case fromOffset:
		return strconv.FormatUint(p.value, 10)
	case fromTime:
		return "@" + time.UnixMilli(int64(p.value)).UTC().Format(time.RFC3339)
	case fromCommitted:
		return "committed"
	case afterStart:
		return "+" + strconv.FormatUint(p.value, 10)
	case beforeEnd:
		return "-" + strconv.FormatUint(p.value, 10)
	case afterCommitted:
		return "committed+" + strconv.FormatUint(p.value, 10)
	case beforeCommitted:
		return "committed-" + strconv.FormatUint(p.value, 10)
	}
	return "start"
}

// wire returns the position to ask the broker for. offset turns the answer into the offset that is
// meant.
func (p Position) wire() wire.Position {
	switch p.kind {
	case fromEnd, beforeEnd:
		return wire.Position{Kind: wire.PositionEnd}
	case fromLast:
		return wire.Position{Kind: wire.PositionLast}
	case fromOffset:
		return wire.Position{Kind: wire.PositionOffset, Value: p.value}
	case fromTime:
		return wire.Position{Kind: wire.PositionTime, Value: p.value}
	case fromCommitted, afterCommitted, beforeCommitted:
		return wire.Position{Kind: wire.PositionCommitted}
	}
	return wire.Position{Kind: wire.PositionFirst}
}

// checkGroup refuses a position that refers to what a group has committed when no group is named.
func (p Position) checkGroup(op wire.Op, topic, group string) error {
	if group != "" || p.wire().Kind != wire.PositionCommitted {
		return nil
	}
	we := wire.Errorf(wire.CodeInvalid, "the position %q needs a group", p)
	return explain(we, op, topic, anyPartition)
}

// offset returns the offset that p means, given the broker's answer to p.wire().
func (p Position) offset(r wire.OffsetsReply) uint64 {
	switch p.kind {
	case afterStart:
		return r.First + min(p.value, r.Visible-min(r.First, r.Visible))
	case beforeEnd:
		return r.Visible - min(p.value, r.Visible-min(r.First, r.Visible))
	case afterCommitted:
		return r.Offset + min(p.value, r.Visible-min(r.Offset, r.Visible))
	case beforeCommitted:
		return r.Offset - min(p.value, r.Offset-min(r.First, r.Offset))
	}
	return r.Offset
}
