package main

import (
	"bufio"
	"bytes"
	"strconv"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// message is a received message as JSON. Bytes that are not UTF-8 are in the _base64 fields. A nil
// key or value is null.
type message struct {
	Topic       string   `json:"topic"`
	Partition   int      `json:"partition"`
	Offset      *uint64  `json:"offset,omitempty"` // nil for a message that is scheduled
	Time        string   `json:"time"`
	Key         *string  `json:"key"`
	KeyBase64   *string  `json:"key_base64,omitempty"`
	Value       *string  `json:"value"`
	ValueBase64 *string  `json:"value_base64,omitempty"`
	Headers     []header `json:"headers,omitempty"`
	Subject     string   `json:"subject,omitempty"`
	Attempt     int      `json:"attempt,omitempty"`
}

type header struct {
	Name        *string `json:"name"`
	NameBase64  *string `json:"name_base64,omitempty"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// jsonTime is RFC 3339 with milliseconds, the precision of the broker.
const jsonTime = "2006-01-02T15:04:05.000Z07:00"

// liveMessage is a message on a subject as JSON.
type liveMessage struct {
	Subject     string   `json:"subject"`
	Reply       string   `json:"reply,omitempty"`
	Time        string   `json:"time"` // the time of its arrival
	Key         *string  `json:"key,omitempty"`
	KeyBase64   *string  `json:"key_base64,omitempty"`
	Value       *string  `json:"value"`
	ValueBase64 *string  `json:"value_base64,omitempty"`
	Headers     []header `json:"headers,omitempty"`
}

// asJSON returns what is printed of m.
func asJSON(m *client.Message) any {
	if m.Topic != "" {
		return newMessage(m)
	}
	t := newMessage(m)
	return liveMessage{m.Subject, m.Reply, t.Time, t.Key, t.KeyBase64, t.Value, t.ValueBase64, t.Headers}
}

func newMessage(m *client.Message) message {
	out := message{
		Topic: m.Topic, Partition: m.Partition, Offset: &m.Offset, Time: m.Time.UTC().Format(jsonTime),
		Subject: m.Subject, Attempt: m.Attempt,
	}
	out.Key, out.KeyBase64 = textOrBase64(m.Key)
	out.Value, out.ValueBase64 = textOrBase64(m.Value)
	for _, h := range m.Headers {
		var j header
		j.Name, j.NameBase64 = textOrBase64([]byte(h.Name))
		j.Value, j.ValueBase64 = textOrBase64(h.Value)
		out.Headers = append(out.Headers, j)
	}
	return out
}

// messageWriter prints received messages in the format that -o asks for. It is safe for concurrent
// use.
type messageWriter struct {
	c *cli

	mu  sync.Mutex // guards buf and stdout
	buf *bufio.Writer
}

// writeBuffer is the size of the buffer in which messages gather before they are written.
const writeBuffer = 64 << 10

func (c *cli) newMessageWriter() *messageWriter {
	return &messageWriter{c: c, buf: bufio.NewWriterSize(c.stdout, writeBuffer)}
}

// write prints m and keeps no part of it. With flush it is on stdout when write returns.
func (w *messageWriter) write(m *client.Message, flush bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.c.asJSON():
		b, err := encodeJSON(asJSON(m), false)
		if err != nil {
			return err
		}
		_, _ = w.buf.Write(b) // buf keeps the error, and Flush returns it
	case w.c.output == "raw":
		_, _ = w.buf.Write(w.c.onTerminal(m.Value))
		_ = w.buf.WriteByte('\n')
	default:
		w.text(m)
	}
	if flush || w.buf.Available() < w.buf.Size()/2 {
		return w.buf.Flush()
	}
	return nil
}

func (w *messageWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Flush()
}

// text prints time, position, key and value on one line. Control characters are quoted, so that a
// terminal does not act on them.
func (w *messageWriter) text(m *client.Message) {
	place := m.Topic + "/" + strconv.Itoa(m.Partition) + "@" + strconv.FormatUint(m.Offset, 10)
	if m.Topic == "" {
		place = harmless(m.Subject)
	}
	key := "-"
	if m.Key != nil {
		key = printable(m.Key)
	}
	value := "(nil)"
	if m.Value != nil {
		value = printable(m.Value)
	}
	_, _ = w.buf.WriteString(w.c.dim(m.Time.Format(time.TimeOnly+".000")) + "  " + place + "  " + w.c.bold(key) + "  " + value)
	for _, h := range m.Headers {
		_, _ = w.buf.WriteString("  " + w.c.dim(printable([]byte(h.Name))+"="+printable(h.Value)))
	}
	_ = w.buf.WriteByte('\n')
}

// printable returns b if it is one line of plain text, and else quotes it.
func printable(b []byte) string {
	s := strconv.Quote(string(b))
	if plain := s[1 : len(s)-1]; plain == string(bytes.ReplaceAll(b, []byte(`"`), []byte(`\"`))) {
		return string(b)
	}
	return s
}
