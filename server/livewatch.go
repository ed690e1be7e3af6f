package server

import (
	"bytes"
	"encoding/base64"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// interest says whether any live subscription matches a topic's name.
type interest struct {
	version uint64 // of the index at the last look
	name    []byte
	any     bool
}

const (
	// maxInterests bounds the topics that a loop remembers, so that deleted ones do not pile up. A broker has
	// fewer topics.
	maxInterests = 16 << 10
	// maxLiveBatch bounds the decompressed size of a batch that is opened on an event loop. Producers make
	// batches of a few megabytes; a larger one is stored, but not sent to live subscribers.
	maxLiveBatch = 16 << 20
)

// routeBatch sends the records that were appended to a topic to the live subscriptions of its name. When there are no
// live subscriptions at all it costs one atomic load.
func (l *loop) routeBatch(topic *partition.Topic, batch *wire.Batch) {
	if !l.routes(topic) {
		return
	}
	l.unmeasured += requestWork
	in := l.interestIn(topic)
	plain, err := openLive(batch)
	if err != nil {
		return
	}
	for rec, err := range plain.Records() {
		if err != nil {
			return
		}
		if rec.Removed { // marked so by the producer: there is nothing to deliver
			continue
		}
		l.header = appendHeader(l.header[:0], &rec)
		m := l.nextRouted()
		m.Subject, m.Reply, m.Header, m.Payload = in.name, nil, l.header, rec.Value
		l.route(m)
	}
}

// openLive returns a batch decompressed. The error is for one that no consumer can open either, or that takes too much of
// an event loop's time.
func openLive(batch *wire.Batch) (wire.Batch, error) {
	if _, size := batch.Packed(); batch.Codec() != wire.CodecNone && size > maxLiveBatch {
		return wire.Batch{}, wire.CodeTooLarge
	}
	return codec.Unpack(*batch, nil)
}

// routes reports whether a live subscription matches the name of a topic.
func (l *loop) routes(topic *partition.Topic) bool {
	return l.srv.live.Len() > 0 && l.interestIn(topic).any
}

func (l *loop) interestIn(topic *partition.Topic) interest {
	in, known := l.interests[topic]
	if !known {
		if l.interests == nil || len(l.interests) >= maxInterests {
			l.interests = map[*partition.Topic]interest{}
		}
		in.name = []byte(topic.Name())
	}
	version := l.srv.live.Version(in.name)
	if known && in.version == version {
		return in
	}
	l.matches.Reset()
	l.srv.live.Match(&l.matches, in.name)
	in.version, in.any = version, !l.matches.Empty()
	l.interests[topic] = in
	return in
}

// appendHeader appends a record's key and headers as a NATS header block, or nothing when it has none. A key that cannot
// stand on a line is written in base64.
func appendHeader(dst []byte, rec *wire.Record) []byte {
	if rec.Key == nil && len(rec.Headers) == 0 {
		return dst
	}
	dst = append(dst, "NATS/1.0\r\n"...)
	switch {
	case rec.Key == nil:
	case oneLine(rec.Key):
		dst = append(append(append(dst, keyHeader+": "...), rec.Key...), crlf...)
	default:
		dst = append(base64.StdEncoding.AppendEncode(append(dst, keyHeader+"-base64: "...), rec.Key), crlf...)
	}
	for name, value := range rec.Headers.All() {
		if !oneLine(name) || bytes.IndexByte(name, ':') >= 0 || len(name) == 0 {
			continue // it cannot be written in a NATS header block
		}
		dst = append(append(dst, name...), ": "...)
		at := len(dst)
		dst = append(dst, value...)
		for i, c := range dst[at:] {
			if c == '\r' || c == '\n' {
				dst[at+i] = ' '
			}
		}
		dst = append(dst, crlf...)
	}
	return append(dst, crlf...)
}

// oneLine reports whether b can stand unchanged as the value of a header line.
func oneLine(b []byte) bool {
	return bytes.IndexByte(b, '\r') < 0 && bytes.IndexByte(b, '\n') < 0 && len(bytes.Trim(b, " \t")) == len(b)
}
