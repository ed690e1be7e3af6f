package server

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// keyHeader is the header that carries a record's key in text mode.
const keyHeader = "rafka-key"

// ttlHeaders are the headers with the time to live of a message.
var ttlHeaders = []string{"rafka-ttl", "Nats-TTL"}

// traits sets the attributes of a batch of one message from its headers: whether it has a message id, and its time to live,
// which is a duration such as 90s or a number of seconds.
func traits(b *wire.BatchBuilder, h wire.Headers) error {
	if len(h) == 0 {
		return nil
	}
	if h.ID() != nil {
		b.MarkIDs()
	}
	for name, value := range h.All() {
		for _, known := range ttlHeaders {
			if !bytes.EqualFold(name, []byte(known)) {
				continue
			}
			ttl, err := parseTTL(string(value))
			if err != nil {
				return err
			}
			b.SetTTL(ttl.Milliseconds())
		}
	}
	return nil
}

func parseTTL(v string) (time.Duration, error) {
	ttl, err := time.ParseDuration(v)
	if seconds, notNumber := strconv.ParseInt(v, 10, 40); notNumber == nil {
		ttl, err = time.Duration(min(seconds, wire.MaxTTLMs/1000+1))*time.Second, nil
	}
	if err != nil || ttl < time.Millisecond || ttl.Milliseconds() > wire.MaxTTLMs {
		return 0, wire.Errorf(wire.CodeInvalid, "time to live %q is not a duration such as 90s, up to a hundred years", v)
	}
	return ttl, nil
}

// parseHeader parses a NATS header block. The header keyHeader becomes the record's key. Lines that are no header are
// ignored. They end with CR LF or, as a person types them and as NATS clients read them, with LF.
func parseHeader(block []byte) (key []byte, headers wire.Headers, err error) {
	_, rest, _ := bytes.Cut(block, crlf[1:])
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, crlf[1:])
		line = bytes.TrimSuffix(line, crlf[:1])
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || len(name) == 0 {
			continue
		}
		value = trimBlanks(value)
		if bytes.EqualFold(name, []byte(keyHeader)) {
			key = value
			continue
		}
		headers = headers.Append(string(name), value)
	}
	switch {
	case len(headers) > wire.MaxHeaderBytes:
		return nil, nil, wire.Errorf(wire.CodeTooLarge, "the headers of a record have at most %d bytes", wire.MaxHeaderBytes)
	case len(key) > wire.MaxKeyBytes:
		return nil, nil, wire.Errorf(wire.CodeTooLarge, "a key has at most %d bytes", wire.MaxKeyBytes)
	}
	return key, headers, nil
}

// moment is the time at which a message on a subject is to be stored. Exactly one of at, delay and cron is used.
type moment struct {
	at    time.Time
	delay time.Duration
	cron  string
	zone  string
}

// momentOf returns the moment that the headers of a message give, and the other headers: rafka-delay, a duration such as
// 10m; rafka-at, a time as in RFC 3339; rafka-cron and rafka-cron-tz, a cron expression and its time zone. Without any of
// them the moment is nil.
func momentOf(h wire.Headers) (m *moment, rest wire.Headers, err error) {
	found := false
	for name := range h.All() {
		found = found || isMoment(name)
	}
	if !found {
		return nil, h, nil
	}
	m = new(moment)
	given := 0
	for name, value := range h.All() {
		v := string(value)
		switch strings.ToLower(string(name)) {
		case "rafka-delay":
			given++
			if m.delay, err = time.ParseDuration(v); err != nil || m.delay < 0 {
				return m, nil, wire.Errorf(wire.CodeInvalid, "delay %q is not a duration such as 10m", v)
			}
		case "rafka-at":
			given++
			if m.at, err = time.Parse(time.RFC3339Nano, v); err != nil {
				return m, nil, wire.Errorf(wire.CodeInvalid, "time %q is not like 2026-11-22T10:00:00Z", v)
			}
		case "rafka-cron":
			given++
			m.cron = v
		case "rafka-cron-tz":
			m.zone = v
		default:
			rest = rest.Append(string(name), value)
		}
	}
	if given != 1 || m.zone != "" && m.cron == "" || len(m.cron) > wire.MaxCronBytes || len(m.zone) > wire.MaxCronBytes {
		return m, nil, wire.Errorf(wire.CodeInvalid, "one of the headers rafka-delay, rafka-at and rafka-cron says when a message is stored")
	}
	return m, rest, nil
}

// momentHeaders are the headers that give a moment.
var momentHeaders = [...]string{"rafka-delay", "rafka-at", "rafka-cron", "rafka-cron-tz"}

func isMoment(name []byte) bool {
	for _, known := range &momentHeaders {
		if len(name) == len(known) && bytes.EqualFold(name, []byte(known)) {
			return true
		}
	}
	return false
}

// schedule schedules a batch of one message for the moment. It returns the message's id, and what Reached needs.
func (m *moment) schedule(p *partition.Partition, raw []byte) (id uint64, at *partition.Partition, index uint64, err error) {
	it := wire.ScheduleItem{Kind: wire.ScheduleDelay, Ms: int64((m.delay + time.Millisecond - 1) / time.Millisecond)}
	switch {
	case m.cron != "":
		it = wire.ScheduleItem{Kind: wire.ScheduleCron, Spec: []byte(m.cron)}
	case !m.at.IsZero():
		it = wire.ScheduleItem{Kind: wire.ScheduleAt, Ms: m.at.UnixMilli()}
	}
	due, err := dueOf(&it, scheduleNow(p))
	if err != nil {
		return 0, nil, 0, err
	}
	batch, err := wire.ViewBatch(raw)
	if err != nil {
		return 0, nil, 0, batchError(err, 0)
	}
	taken, err := p.Schedule([]partition.ScheduleItem{{Due: due, Cron: m.cron, Zone: m.zone, Batch: &batch}}, wire.Producer{})
	return taken.First, taken.At, taken.Index, err
}
