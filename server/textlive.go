package server

import (
	"slices"
	"strconv"
)

// deliver sends a message to one of the session's subscriptions. It reports whether the subscription took it.
func (t *text) deliver(sub *liveSub, m *message) bool {
	v := &sub.Value
	if t.s.closed || t.dropping || sub.Gone() {
		return false
	}
	if t.s.who != nil && !t.s.mayReceive(sub, m) {
		return false
	}
	v.delivered++
	t.s.loop.turn.passed.add(1, len(m.Payload))
	out := t.s.room(m.outputBytes())
	if len(m.Payload) >= directBytes {
		out.B = appendMessageHead(out.B, m, sub.Note(), t.headers)
		t.s.spillWith(m.Payload, messageEnd, t.s.loop.srv.opts.Now())
	} else if out.B = appendMessage(out.B, m, sub.Note(), t.headers); len(out.B) >= spillBytes {
		t.s.spill(t.s.loop.srv.opts.Now())
	}
	if v.max > 0 && v.delivered >= v.max {
		t.dropSubscription(sub)
	}
	return true
}

// nobody tells a requester that nobody got its request.
func (t *text) nobody(sub *liveSub, m *message) {
	answer := newMessage(m.Reply, nil)
	answer.Header = slices.Concat([]byte("NATS/1.0 503\r\nNats-Subject: "), m.Subject, []byte("\r\n\r\n"))
	out := t.s.buffer()
	out.B = appendMessage(out.B, answer, sub.Note(), true)
}

func (t *text) at() *session { return t.s }

// messageEnd follows a payload.
var messageEnd = []byte("\r\n")

// appendMessage appends MSG or, for a peer that understands headers, HMSG.
func appendMessage(dst []byte, m *message, sid string, headers bool) []byte {
	dst = appendMessageHead(dst, m, sid, headers)
	dst = append(dst, m.Payload...)
	return append(dst, messageEnd...)
}

// appendMessageHead appends what stands before the payload.
func appendMessageHead(dst []byte, m *message, sid string, headers bool) []byte {
	header := m.Header
	if !headers {
		header = nil
	}
	if len(header) > 0 {
		dst = append(dst, 'H')
	}
	dst = append(dst, "MSG "...)
	dst = append(dst, m.Subject...)
	dst = append(dst, ' ')
	dst = append(dst, sid...)
	dst = append(dst, ' ')
	if len(m.Reply) > 0 {
		dst = append(dst, m.Reply...)
		dst = append(dst, ' ')
	}
	if len(header) > 0 {
		dst = appendSize(dst, len(header))
		dst = append(dst, ' ')
	}
	dst = appendSize(dst, len(header)+len(m.Payload))
	dst = append(dst, '\r', '\n')
	return append(dst, header...)
}

// appendSize appends a size in decimal digits. strconv takes three times as long for those of most messages.
func appendSize(dst []byte, n int) []byte {
	switch {
	case n < 10:
		return append(dst, '0'+byte(n))
	case n < 100:
		return append(dst, '0'+byte(n/10), '0'+byte(n%10))
	case n < 1000:
		return append(dst, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
	}
	return strconv.AppendInt(dst, int64(n), 10)
}
