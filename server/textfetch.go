package server

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

const (
	// fetchCount is the default number of records that FETCH shows, and maxFetchCount the highest.
	fetchCount    = 10
	maxFetchCount = 10_000
	// fetchTextBytes is the output at which FETCH stops before the next record.
	fetchTextBytes = 1 << 20
)

func (t *text) fetch(args []string, _ time.Time) error {
	p, from, err := t.place(args[0])
	if err != nil {
		return err
	}
	count, err := parseCount(args, 1, fetchCount, maxFetchCount)
	if err != nil {
		return err
	}
	offset, err := startOf(p, from)
	if err != nil {
		return err
	}
	// On a worker: the records may be on the disk, and compressed.
	return t.work(true, func() (func(time.Time) error, error) {
		show := shower{p: p, verb: "RECORD", end: math.MaxUint64, limit: count, bytes: fetchTextBytes}
		next, err := show.from(offset)
		return func(time.Time) error {
			t.show(&show)
			t.line("+OK %s, next %d", counted(show.count, "record"), next)
			return nil
		}, err
	})
}

// startOf returns the offset at which FETCH starts.
func startOf(p *partition.Partition, from string) (uint64, error) {
	kind := wire.PositionOffset
	var offset uint64
	switch from {
	case "", "first":
		kind = wire.PositionFirst
	case "last":
		kind = wire.PositionLast
	default:
		var err error
		if offset, err = parseOffset(from); err != nil {
			return 0, err
		}
	}
	return p.Locate(wire.Position{Kind: kind, Value: offset}, "")
}

// show writes the records that a shower collected.
func (t *text) show(show *shower) {
	out := t.s.buffer()
	out.B = append(out.B, show.out...)
	if show.count > 0 {
		t.s.loop.delivered(show.p, show.count, len(show.out))
	}
	if len(out.B) >= spillBytes {
		t.s.spill(t.s.loop.srv.opts.Now())
	}
}

// shower writes records for a person to read.
type shower struct {
	p     *partition.Partition
	verb  string // start of each record's line
	extra string // end of each record's line
	end   uint64 // offset at which it stops
	limit int    // number of records at which it stops
	bytes int    // size of out at which it stops before the next record
	count int    // records in out
	out   []byte
}

// from adds records from an offset on until there are enough, and returns the offset behind them. After some records it
// returns no error, so that they are shown; the next call returns the error.
func (s *shower) from(offset uint64) (next uint64, err error) {
	for !s.full(offset) {
		behind, err := s.chunk(offset)
		if err != nil && s.count > 0 {
			return offset, nil
		}
		if err != nil || behind == offset {
			return offset, err
		}
		offset = behind
	}
	return offset, nil
}

// chunk adds the records of a chunk that was read at offset, and returns the offset behind them.
func (s *shower) chunk(offset uint64) (next uint64, err error) {
	var c log.Chunk
	defer c.Release()
	const maxBytes = 256 << 10
	err = s.p.Read(&c, offset, maxBytes)
	if errors.Is(err, log.ErrCold) {
		err = s.p.ReadCold(&c, offset, maxBytes)
	}
	if err != nil {
		return offset, err
	}
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return offset, err
			}
			if e.Kind == wire.KindData {
				if offset, err = s.entry(&e, offset); err != nil || s.full(offset) {
					return offset, err
				}
			}
			b = rest
		}
	}
	return max(offset, c.Next), nil
}

func (s *shower) full(offset uint64) bool {
	return offset >= s.end || s.count >= s.limit || len(s.out) >= s.bytes
}

// entry adds the records of an entry from offset on, and returns the offset behind the last one.
func (s *shower) entry(e *wire.Entry, offset uint64) (next uint64, err error) {
	batch, err := partition.Unpacked(e)
	if err != nil {
		return offset, err
	}
	at := e.BaseOffset
	for rec, err := range batch.Records() {
		if err != nil {
			return offset, partition.Undecodable(e, err)
		}
		if at >= offset {
			if s.full(at) {
				return at, nil
			}
			if !rec.Removed {
				s.record(at, &rec, e.Time)
			}
			offset = at + 1
		}
		at++
	}
	return offset, nil
}

// leased adds the messages in sent of a gatherer. With an error, those that it did not add are left.
func (s *shower) leased(g *gatherer) error {
	for i, l := range g.sent {
		before := *s
		if err := s.lease(g.out, l); err != nil {
			*s = before
			g.left = append(slices.Clone(g.sent[i:]), g.left...)
			g.sent = g.sent[:i]
			return err
		}
	}
	return nil
}

// lease adds the messages of a lease, which are among the entries.
func (s *shower) lease(entries []byte, l group.Lease) error {
	s.extra, s.end = fmt.Sprintf(" attempt=%d", l.Attempt), l.First+uint64(l.Count)
	for len(entries) > 0 {
		e, rest, err := wire.ViewEntry(entries)
		if err != nil {
			return err
		}
		if e.BaseOffset < s.end && e.NextOffset() > l.First {
			if _, err := s.entry(&e, l.First); err != nil {
				return err
			}
		}
		entries = rest
	}
	return nil
}

// record adds one record: a line with its place, size and properties, and then its value.
func (s *shower) record(offset uint64, rec *wire.Record, appended int64) {
	out := append(append(append(s.out, s.verb...), ' '), s.p.String()...)
	out = strconv.AppendUint(append(out, '@'), offset, 10)
	out = strconv.AppendInt(append(out, ' '), int64(len(rec.Value)), 10)
	at := rec.Time
	if at == 0 {
		at = appended
	}
	out = time.UnixMilli(at).UTC().AppendFormat(append(out, " time="...), "2006-01-02T15:04:05.000Z")
	if rec.Key != nil {
		out = strconv.AppendQuote(append(out, " key="...), string(rec.Key))
	}
	if len(rec.Subject) > 0 {
		out = strconv.AppendQuote(append(out, " subject="...), string(rec.Subject))
	}
	for name, value := range rec.Headers.All() {
		out = strconv.AppendQuote(append(out, " header="...), string(name)+": "+string(value))
	}
	if rec.Value == nil {
		out = append(out, " tombstone"...)
	}
	out = append(append(out, s.extra...), crlf...)
	s.out = append(append(out, rec.Value...), crlf...)
	s.count++
}
