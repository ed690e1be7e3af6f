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
	f("@-1h", Since(now.Add(-time.Hour)))
	f("@-90m", Since(now.Add(-90*time.Minute)))
	f("@-2d", Since(now.Add(-48*time.Hour)))
	f("@2026-11-22T10:00:00Z", Since(now.Add(-2*time.Hour)))
	f("@2026-11-22T10:00:00+02:00", Since(now.Add(-4*time.Hour)))
	f("@2026-11-22T10:00", Since(time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)))
	f("@2026-11-22T10:00:30", Since(time.Date(2026, 11, 22, 10, 0, 30, 0, time.Local)))
	f("@2026-11-22", Since(time.Date(2026, 11, 22, 0, 0, 0, 0, time.Local)))
	for _, bad := range []string{"", "x", "+", "-", "++1", "+-1", "1.5", "@", "@x", "@-", "@--1h", "@-xd", "@2026", "18446744073709551616"} {
		_, err := parsePosition(bad, now)
		require.Error(t, err, bad)
	}
}

func TestPositionsReadBackAsTheyPrint(t *testing.T) {
	for _, p := range []Position{Start(), End(), Last(), Committed(), At(7), AfterStart(3), BeforeEnd(4), Since(time.Unix(1_700_000_000, 0))} {
		got, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
}

func TestRelativePositionsStayInTheRange(t *testing.T) {
	f := func(p Position, first, visible, want uint64) {
		t.Helper()
		require.Equal(t, want, p.settle(wire.OffsetsReply{Offset: 77, First: first, Visible: visible}))
	}
	f(AfterStart(3), 10, 20, 13)
	f(AfterStart(30), 10, 20, 20)
	f(BeforeEnd(3), 10, 20, 17)
	f(BeforeEnd(30), 10, 20, 10)
	f(BeforeEnd(1), 0, 0, 0)
	f(Last(), 10, 20, 77)
	require.Equal(t, wire.Position{Kind: wire.PositionTime}, Since(time.Unix(-5, 0)).wire())
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"start", "+1", "-1", "12", "@-1h", "@2026-11-22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err == nil {
			_ = p.String()
			_ = p.settle(wire.OffsetsReply{First: 1, Visible: 5})
		}
	})
}
