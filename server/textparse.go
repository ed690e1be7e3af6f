package server

import (
	"bytes"
	"strings"
	"time"
)

func lineEnd(in []byte) int { return bytes.IndexByte(in, '\n') }

// command runs the command at the start of in and returns its size in bytes. When the command is not complete, it returns
// 0 and the number of bytes that it needs, or 0 when not even the line is complete. It does not keep in.
func (t *text) command(in []byte, now time.Time) (used, need int) {
	var l publishLine
	if line, ok := l.quick(in); ok && line-len("PUB \r\n") <= t.maxArgs() {
		return t.publishLine(in, &l, line, false, now)
	}
	end := lineEnd(in)
	if limit := t.maxLine(); end > limit || end < 0 && len(in) > limit {
		t.refuse(errLongLine)
		return len(in), 0
	}
	if end < 0 {
		t.foresee(in)
		return 0, 0
	}
	line := in[:end]
	if t.friendly() {
		line = trimReturns(line)
	}
	verb, args := cutVerb(line)
	used = end + 1
	switch {
	case !t.friendly() && (len(verb) == 0 || isBlank(in[0])): // programs do not send that
		t.refuse(errUnknown)
		return used, 0
	case len(args) > t.maxArgs():
		t.refuse(errLongLine)
		return used, 0
	case len(verb) == 0: // a person pressed return
		return used, 0
	}
	var scratch [maxVerb]byte
	name := upper(scratch[:0], verb)
	switch string(name) {
	case "PUB":
		return t.commandPublish(in, args, used, false, now)
	case "HPUB":
		return t.commandPublish(in, args, used, true, now)
	}
	t.dispatch(name, args, now)
	return used, 0
}

// natsVerbs are the verbs of NATS clients.
var natsVerbs = []string{"CONNECT", "PING", "PONG", "PUB", "HPUB", "SUB", "UNSUB", "INFO", "+OK", "-ERR"}

// foresee closes a program's connection at the start of a line that cannot become a command, without waiting for the end
// of the line, which may never arrive.
func (t *text) foresee(start []byte) {
	if !t.connected || t.person {
		return
	}
	verb, _ := cutVerb(start)
	var scratch [maxVerb]byte
	name := string(upper(scratch[:0], verb))
	for _, v := range natsVerbs {
		if strings.HasPrefix(v, name) {
			return
		}
	}
	for v := range t.s.loop.srv.verbs {
		if strings.HasPrefix(v, name) {
			return
		}
	}
	t.refuse(errUnknown)
}

// commandPublish runs PUB or HPUB, whose payload follows a line of the given size.
func (t *text) commandPublish(in, args []byte, line int, header bool, now time.Time) (used, need int) {
	if !t.admitted(now) {
		return line, 0
	}
	var l publishLine
	ok := l.parse(args, header)
	switch {
	case !ok && header:
		t.misused(args, "usage: HPUB subject [reply] header-bytes all-bytes")
		return line, 0
	case !ok:
		t.misused(args, "usage: PUB subject [reply] bytes")
		return line, 0
	}
	return t.publishLine(in, &l, line, header, now)
}

// publishLine runs a PUB or HPUB whose line was parsed.
func (t *text) publishLine(in []byte, l *publishLine, line int, header bool, now time.Time) (used, need int) {
	switch {
	case !t.admitted(now):
		return line, 0
	case l.size > t.s.loop.srv.maxPayload:
		t.refuse("Maximum Payload Violation")
		return line, 0
	case header && (t.connected && !t.headers || t.s.loop.srv.opts.NoHeaders):
		t.refuse("message headers not supported")
		return line, 0
	}
	n := trailer(in[line:], l.size, t.friendly())
	switch {
	case n < 0:
		return 0, line - n
	case n == 0 || n == 1 && t.connected:
		t.refuse(errUnknown)
		return line, 0
	}
	t.headers = t.headers || header // a peer that sends headers can read them
	body := in[line : line+l.size : line+l.size]
	m := t.s.loop.nextRouted()
	m.Subject, m.Reply, m.Header, m.Payload = l.subject, l.reply, body[:l.header:l.header], body[l.header:]
	t.publish(m, now)
	return line + l.size + n, 0
}

// quick parses a PUB line in the form in which programs write it: "PUB subject [reply] size\r\n" in upper case, with single
// spaces. It returns the size of the line. Other forms, and errors, are left to parse.
func (l *publishLine) quick(in []byte) (line int, ok bool) {
	if len(in) < 4 || in[0] != 'P' || in[1] != 'U' || in[2] != 'B' || in[3] != ' ' {
		return 0, false
	}
	i := 4
	for i < len(in) && in[i] > ' ' {
		i++
	}
	if i == 4 || i == len(in) || in[i] != ' ' {
		return 0, false
	}
	l.subject = in[4:i:i]
	i++
	start := i
	for i < len(in) && in[i] > ' ' {
		i++
	}
	if i < len(in) && in[i] == ' ' && i > start {
		l.reply = in[start:i:i]
		i++
		start = i
		for i < len(in) && in[i] > ' ' {
			i++
		}
	}
	if i+1 >= len(in) || in[i] != '\r' || in[i+1] != '\n' {
		return 0, false
	}
	l.size, ok = parseSize(in[start:i])
	return i + 2, ok
}

// trailer returns the size of the line end behind a payload of size bytes: 2, or 1 for a bare line feed, or 0 when something
// else is there. A carriage return of telnet may precede it. When bytes are missing, it returns the negated number of bytes
// that are needed from the start of the payload.
func trailer(b []byte, size int, telnet bool) int {
	switch {
	case len(b) <= size:
		return -(size + 1)
	case b[size] == '\n':
		return 1
	case b[size] != '\r':
		return 0
	case len(b) <= size+1:
		return -(size + 2)
	case b[size+1] == '\n':
		return 2
	case b[size+1] != 0 || !telnet:
		return 0
	}
	n := trailer(b, size+len(telnetReturn), false)
	if n > 0 {
		n += len(telnetReturn)
	}
	return n
}

// telnetReturn is how telnet sends a carriage return that no line feed follows, or that comes from a file
// or pipe whose lines end with CR LF.
const telnetReturn = "\r\x00"

// trimReturns removes the carriage returns at the end of a line.
func trimReturns(line []byte) []byte {
	for {
		line = bytes.TrimRight(line, "\r")
		rest, ok := bytes.CutSuffix(line, []byte(telnetReturn))
		if !ok {
			return line
		}
		line = rest
	}
}

// maxVerb is at least the size of the longest verb.
const maxVerb = 16

// upper appends the verb in upper case to dst, or "?" for a text that is too long for a verb.
func upper(dst, verb []byte) []byte {
	if len(verb) > maxVerb {
		return append(dst, "?"...)
	}
	for _, c := range verb {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// cutVerb splits a line into the verb and its arguments, both without blanks around them. As in nats-server, JSON needs no
// blank before it.
func cutVerb(line []byte) (verb, args []byte) {
	line = trimBlanks(line)
	i := 0
	for i < len(line) && !isBlank(line[i]) && line[i] != '{' {
		i++
	}
	return line[:i], trimBlanks(line[i:])
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// fields splits args at blanks into dst and returns the number of fields, or len(dst)+1 when there are more.
func fields(dst [][]byte, args []byte) (n int) {
	for len(args) > 0 {
		i := 0
		for i < len(args) && !isBlank(args[i]) {
			i++
		}
		if n == len(dst) {
			return n + 1
		}
		dst[n] = args[:i]
		n++
		args = trimBlanks(args[i:])
	}
	return n
}

// publishLine is the control line of PUB and HPUB.
type publishLine struct {
	subject, reply []byte
	header         int // size of the header at the start of the payload
	size           int // of the payload with its header
}

// parse parses "subject [reply] size" and, for HPUB, "subject [reply] header-size size".
func (l *publishLine) parse(args []byte, header bool) (ok bool) {
	var f [4][]byte
	sizes := 1
	if header {
		sizes = 2
	}
	n := fields(f[:2+sizes], args)
	if n != 1+sizes && n != 2+sizes {
		return false
	}
	l.subject = f[0]
	if n == 2+sizes {
		l.reply = f[1]
	}
	if l.size, ok = parseSize(f[n-1]); !ok {
		return false
	}
	if header {
		l.header, ok = parseSize(f[n-2])
	}
	return ok && l.header <= l.size
}

// parseSize parses up to nine decimal digits and nothing else.
func parseSize(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
