package client

import (
	"bytes"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Header is a name and a value attached to a message. Names may repeat.
type Header struct {
	Name  string
	Value []byte
}

// Message is a message to publish, or one that was received.
type Message struct {
	// Topic is set by the producer, and by the client on received messages.
	Topic string
	// Key chooses the partition; messages of one key stay in order. nil means no key: the message
	// goes to any partition. Set by the producer. At most wire.MaxKeyBytes.
	Key []byte
	// Value is the payload. nil is a tombstone, empty is an empty value. Set by the producer.
	Value []byte
	// Headers are set by the producer, together at most wire.MaxHeaderBytes.
	Headers []Header
	// Time is when the message was made, in whole milliseconds. The producer may set it; otherwise a
	// received message has the time at which the broker appended it.
	Time time.Time
	// Subject is the subject the message was published on, when that is not the topic's name. Set by
	// the producer.
	Subject string
	// Reply is the subject for an answer to a message that was sent to a subject. Set by the sender, and
	// by Request.
	Reply string
	// Partition is set on received messages. A producer sets it together with Pinned.
	Partition int
	// Pinned, set by the producer, sends the message to Partition instead of choosing one.
	Pinned bool
	// ID, set by the producer, names the message on a topic with a dedupe window: of the messages with
	// one ID that are published within the window only the first is stored, whoever sent them. It
	// travels as a header of the name wire.HeaderID. At most wire.MaxMessageID bytes. Set on received
	// messages that have one.
	ID string
	// TTL, set by the producer, is how long the message is delivered for, by the broker's clock, in whole
	// milliseconds. Default: as long as the topic keeps it. Set on received messages.
	TTL time.Duration
	// Delay, set by the producer, has the broker publish the message after that time, in whole
	// milliseconds, at most ten years. Receipt.Schedule is its id until then.
	Delay time.Duration
	// At is when the broker publishes the message, instead of Delay. A time in the past means now. Set by
	// the producer.
	At time.Time
	// Cron has the broker publish the message repeatedly until it is cancelled: five fields, or @hourly and
	// the like, in the time zone Zone. Set by the producer.
	Cron string
	// Zone is the time zone of Cron, a name such as Europe/Berlin. Default: UTC.
	Zone string
	// Level, set by the producer, overrides Options.Level. A topic's own level is a minimum.
	Level wire.Level

	// Offset is the message's place in its partition. Set on received messages.
	Offset uint64
	// Attempt counts the deliveries of a message, from 1, for groups and queues run by this client.
	// Set on received messages.
	Attempt int

	lease *lease // of a queue's message, else nil
}

// Header returns the value of the first header of that name, nil when there is none.
func (m *Message) Header(name string) []byte {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return nil
}

// Clone returns a copy that stays valid. The copy of a message of a queue can be settled like the original.
func (m *Message) Clone() *Message {
	c := *m
	c.Key, c.Value = bytes.Clone(m.Key), bytes.Clone(m.Value)
	c.Headers = slices.Clone(m.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return &c
}

// Receipt says where a published message is and how safe it is there.
type Receipt struct {
	Topic     string
	Partition int
	Offset    uint64     // 0 and meaningless at wire.LevelNone, and for what is published later
	Schedule  uint64     // of a message that is published later: its id in the partition; else 0
	Level     wire.Level // reached, as the broker reports it
	Duplicate bool       // the broker had stored the message before
}

// fill sets the fields of m that a record carries. Views of the record stay views, except names of
// headers and the subject, which are strings. appended stands in for a missing time.
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
