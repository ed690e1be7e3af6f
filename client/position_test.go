package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestParsePosition(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := func(in string, want Position) {
		t.Helper()
		got, err := parsePosition(in, now)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	f("start", Position{})
	f("first", Start())
	f("end", End())
	f("last", Last())
	f("committed", Committed())
	f("0", At(0))
	f("18446744073709551615", At(1<<64-1))
	f("+10", AfterStart(10))
	f("-10", BeforeEnd(10))
	f("committed+1", AfterCommitted(1))
	f("committed-10", BeforeCommitted(10))
	f("@-1h", Since(now.Add(-time.Hour)))
	f("@-90m", Since(now.Add(-90*time.Minute)))
	f("@-2d", Since(now.Add(-48*time.Hour)))
	f("@2026-11-22T10:00:00Z", Since(now.Add(-2*time.Hour)))
	f("@2026-11-22T10:00:00+02:00", Since(now.Add(-4*time.Hour)))
	f("@2026-11-22T10:00", Since(time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)))
	f("@2026-11-22T10:00:30", Since(time.Date(2026, 11, 22, 10, 0, 30, 0, time.Local)))
	f("@2026-11-22", Since(time.Date(2026, 11, 22, 0, 0, 0, 0, time.Local)))
	for _, bad := range []string{"", "x", "+", "-", "++1", "+-1", "1.5", "@", "@x", "@-", "@--1h", "@-xd", "@2026", "18446744073709551616", "committed+", "committed++1", "committed1"} {
		_, err := parsePosition(bad, now)
		require.Error(t, err, bad)
	}
}

func TestPositionsReadBackAsTheyPrint(t *testing.T) {
	for _, p := range []Position{Start(), End(), Last(), Committed(), At(7), AfterStart(3), BeforeEnd(4), AfterCommitted(5), BeforeCommitted(6), Since(time.Unix(1_700_000_000, 0))} {
		got, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

func TestRelativePositionsStayInTheRange(t *testing.T) {
	f := func(p Position, first, visible, want uint64) {
		t.Helper()
		require.Equal(t, want, p.offset(wire.OffsetsReply{Offset: 77, First: first, Visible: visible}))
	}
	f(AfterStart(3), 10, 20, 13)
	f(AfterStart(30), 10, 20, 20)
	f(BeforeEnd(3), 10, 20, 17)
	f(BeforeEnd(30), 10, 20, 10)
	f(BeforeEnd(1), 0, 0, 0)
	f(Last(), 10, 20, 77)
	f(AfterCommitted(3), 10, 90, 80)
	f(AfterCommitted(30), 10, 90, 90)
	f(BeforeCommitted(7), 10, 90, 70)
	f(BeforeCommitted(99), 10, 90, 10)
	f(AfterCommitted(1), 80, 90, 78)
	f(BeforeCommitted(1), 80, 90, 77)
	require.Equal(t, wire.Position{Kind: wire.PositionTime}, Since(time.Unix(-5, 0)).wire())
}

func TestParseRange(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := func(clock string) Position {
		p, err := parsePosition("@2026-11-22T"+clock, now)
		require.NoError(t, err)
		return p
	}
	f := func(in string, want Range) {
		t.Helper()
		got, err := parseRange(in, now)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	f("start", Range{From: Start()})
	f("-10", Range{From: BeforeEnd(10)})
	f("@2026-11-22T10:00", Range{From: day("10:00")})
	f("@2026-11-22T10:00:30", Range{From: day("10:00:30")})
	f("100:200", Range{From: At(100), To: At(200), Bounded: true})
	f("100:", Range{From: At(100), To: End(), Bounded: true})
	f(":200", Range{From: Start(), To: At(200), Bounded: true})
	f("+10:-10", Range{From: AfterStart(10), To: BeforeEnd(10), Bounded: true})
	f("@-2h:@-1h", Range{From: Since(now.Add(-2 * time.Hour)), To: Since(now.Add(-time.Hour)), Bounded: true})
	f("@2026-11-22T10:00:@2026-11-22T11:00:30", Range{From: day("10:00"), To: day("11:00:30"), Bounded: true})
	f("@2026-11-22T10:00:500", Range{From: day("10:00"), To: At(500), Bounded: true})
	f("@2026-11-22T10:00:", Range{From: day("10:00"), To: End(), Bounded: true})
	for _, bad := range []string{"", ":", "x:y", "1:x", "x:1", "1:2:3"} {
		_, err := parseRange(bad, now)
		require.Error(t, err, bad)
	}
	require.Equal(t, "100:-5", Range{From: At(100), To: BeforeEnd(5), Bounded: true}.String())
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"start", "+1", "-1", "12", "@-1h", "@2026-11-22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err == nil {
			_ = p.String()
			_ = p.offset(wire.OffsetsReply{First: 1, Visible: 5})
		}
		if r, err := ParseRange(s); err == nil {
			_ = r.String()
		}
	})
}
