package client

import (
	"bytes"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Header is a name and a value attached to a message. Several headers may have the same name.
type Header struct {
	Name  string
	Value []byte
}

// Message is a message to publish, or one that was received. A field that is "set by the producer"
// is also set on received messages, unless its comment says otherwise.
type Message struct {
	// Topic is set by the producer, and by the client on received messages.
	Topic string
	// Key chooses the partition: messages with the same key stay in order. nil means no key: the ID
	// chooses the partition and, without an ID, the message may go to any. Set by the producer, at most
	// wire.MaxKeyBytes.
	Key []byte
	// Value is the payload. On a compacted topic nil is a tombstone, which deletes the key; an empty
	// value is not. Set by the producer.
	Value []byte
	// Headers are set by the producer. Together they have at most wire.MaxHeaderBytes.
	Headers []Header
	// Time is when the message was made, in whole milliseconds. It may be set by the producer;
	// otherwise a received message has the time at which the broker stored it.
	Time time.Time
	// Subject is the subject that the message was published on, when that is not the topic's name.
	// Set by the producer.
	Subject string
	// Reply is the subject to send an answer to. Set by the sender of a message to a subject, and
	// by Request.
	Reply string
	// Partition is where the message is stored. Set on received messages, and by the producer together
	// with Pinned.
	Partition int
	// Pinned sends the message to Partition instead of a partition chosen by its key. Set by the
	// producer, and not on received messages.
	Pinned bool
	// ID identifies the message on a topic with a dedupe window: when several messages with one ID
	// are published to a partition within the window, by any producer, only the first is stored. Set by
	// the producer, at most wire.MaxMessageID bytes. It travels as the header wire.HeaderID.
	ID string
	// TTL is how long the message is delivered, counted from its storage by the broker's clock, in
	// whole milliseconds. 0 means as long as the topic keeps it. Set by the producer.
	TTL time.Duration
	// Delay makes the broker publish the message after that time, in whole milliseconds, at most
	// ten years. Receipt.Schedule identifies the message until then. Set by the producer, and not
	// on received messages, like At, Cron and Zone.
	Delay time.Duration
	// At makes the broker publish the message at that time, at most ten years ahead. A time in the past
	// means now; one before 1970 is refused.
	At time.Time
	// Cron makes the broker publish the message repeatedly, until it is cancelled. It has five
	// fields, or is @hourly and the like. Only one of Delay, At and Cron may be set.
	Cron string
	// Zone is the time zone of Cron, for example Europe/Berlin. Default: UTC.
	Zone string
	// Level is the durability that the publish waits for. Set by the producer, and not on received
	// messages. Default: Options.Level. The topic's own level is the minimum.
	Level wire.Level

	// Offset is the position of the message in its partition. Set on received messages.
	Offset uint64
	// Attempt counts the deliveries of the message to a group or queue, from 1. Set on messages
	// received from one.
	Attempt int

	lease *lease // of a message from a queue, else nil
}

// Header returns the value of the first header with that name, or nil when there is none. The value
// is valid as long as the message.
func (m *Message) Header(name string) []byte {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return nil
}

// Clone returns a copy that stays valid. The copy of a message from a queue can be settled instead
// of the original.
func (m *Message) Clone() *Message {
	c := *m
	c.Key, c.Value, c.Headers = bytes.Clone(m.Key), bytes.Clone(m.Value), cloneHeaders(m.Headers)
	return &c
}

func cloneHeaders(hs []Header) []Header {
	hs = slices.Clone(hs)
	for i := range hs {
		hs[i].Value = bytes.Clone(hs[i].Value)
	}
	return hs
}

// Receipt says where a message was stored, and how durably.
type Receipt struct {
	Topic     string
	Partition int
	Offset    uint64     // meaningless at wire.LevelNone, and for a scheduled message
	Schedule  uint64     // the id of a scheduled message in its partition, else 0; see Client.Schedule
	Level     wire.Level // the level that was reached
	Duplicate bool       // the broker had stored the message before, and did not store it again
}

// isPlain reports whether m has nothing to store but a key and a value.
func (m *Message) isPlain() bool {
	return len(m.Headers) == 0 && m.ID == "" && m.Subject == "" && m.Time.IsZero()
}

// record returns m as it is stored, with its encoded headers.
func (m *Message) record(headers wire.Headers) wire.Record {
	rec := wire.Record{Key: m.Key, Value: m.Value, Headers: headers}
	if m.Subject != "" {
		rec.Subject = []byte(m.Subject)
	}
	if !m.Time.IsZero() {
		rec.Time = m.Time.UnixMilli()
	}
	return rec
}

// appendHeaders appends what m stores as headers.
func (m *Message) appendHeaders(dst wire.Headers) wire.Headers {
	if m.ID != "" {
		dst = dst.Append(wire.HeaderID, []byte(m.ID))
	}
	for i := range m.Headers {
		dst = dst.Append(m.Headers[i].Name, m.Headers[i].Value)
	}
	return dst
}

// fill sets the fields of m that a record holds. Key, Value and header values are views of the
// record; header names and the subject are copies. appended, in Unix milliseconds, replaces a
// missing time.
func (m *Message) fill(r *wire.Record, appended int64) {
	m.Key, m.Value = r.Key, r.Value
	ms := r.Time
	if ms == 0 {
		ms = appended
	}
	m.Time = time.UnixMilli(ms)
	m.Headers, m.ID = m.Headers[:0], ""
	if len(r.Headers) > 0 {
		for name, value := range r.Headers.All() {
			if string(name) == wire.HeaderID {
				m.ID = string(value)
				continue
			}
			m.Headers = append(m.Headers, Header{Name: string(name), Value: value})
		}
	}
	if string(r.Subject) != m.Subject {
		m.Subject = string(r.Subject)
	}
}
