package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// humanVerb is a command for people. NATS clients do not use them, so a session that does gets answers and errors in words.
type humanVerb struct {
	name     string
	usage    string // the arguments
	about    string
	min, max int // number of arguments; max below 0 for any
	serve    func(t *text, args []string, now time.Time) error
}

// humanVerbs returns the table, in the order of HELP.
func humanVerbs() []humanVerb {
	return []humanVerb{
		{"TOPICS", "", "lists the topics", 0, 0, (*text).topics},
		{"TOPIC", "name [partitions=N] [setting=value …]", "creates a topic, or shows the one that exists", 1, -1, (*text).topic},
		{"FETCH", "topic/partition@offset [count]", "reads records; the offset may be first or last", 1, 2, (*text).fetch},
		{"LEASE", "topic queue [count]", "takes messages of a queue, which is opened when needed", 2, 3, (*text).lease},
		{"ACK", "topic/partition@offset queue", "the message is done", 2, 2, (*text).ack},
		{"NACK", "topic/partition@offset queue [delay]", "deliver the message again, after a delay such as 5s", 2, 3, (*text).nack},
		{"REJECT", "topic/partition@offset queue [reason]", "the message is a dead letter", 2, -1, (*text).reject},
		{"COMMIT", "topic/partition offset group", "stores where a group goes on reading", 3, 3, (*text).commit},
		{"COMMITTED", "group topic", "shows where a group goes on reading", 2, 2, (*text).committed},
		{"GROUPS", "[group]", "lists groups and queues with their lag", 0, 1, (*text).groups},
		{"STATS", "", "shows what the broker counts, as JSON", 0, 0, (*text).stats},
		{"HELP", "", "shows this list", 0, 0, (*text).help},
		{"QUIT", "", "closes the connection", 0, 0, (*text).quit},
	}
}

// humanTable returns humanVerbs by name.
func humanTable() map[string]humanVerb {
	table := map[string]humanVerb{}
	for _, v := range humanVerbs() {
		table[v.name] = v
	}
	return table
}

// human runs a command for people.
func (t *text) human(verb, args []byte, now time.Time) {
	v, ok := t.s.loop.srv.verbs[string(verb)]
	switch {
	case !ok && t.person:
		t.fail("unknown command, HELP lists the commands")
		return
	case !ok:
		t.refuse(errUnknown)
		return
	}
	t.person = true
	f := strings.Fields(string(args))
	if len(f) < v.min || v.max >= 0 && len(f) > v.max {
		t.fail("usage: " + strings.TrimSpace(v.name+" "+v.usage))
		return
	}
	if t.seeOwn(func(now time.Time) error { return v.serve(t, f, now) }) {
		return
	}
	if err := v.serve(t, f, now); err != nil {
		t.failError(asWireError(err))
	}
}

// seeOwn makes a command wait until what the person published before is visible. It returns false when there is nothing to
// wait for.
func (t *text) seeOwn(then func(now time.Time) error) bool {
	var waits []ack
	var at []*partition.Partition
	for p, index := range t.recent {
		if level := p.Topic().Config().Level; p.Failure() == nil && !p.Reached(index, level) {
			waits, at = append(waits, ack{index: index, level: level}), append(at, p)
		}
	}
	clear(t.recent)
	if len(waits) == 0 {
		return false
	}
	t.s.pause()
	wait, j := &textWait{t, then}, &join{left: len(waits)}
	for i, a := range waits {
		a.to, a.join = wait, j
		t.s.loop.awaitLevel(at[i], a)
	}
	return true
}

// failError tells a person about an error of the broker.
func (t *text) failError(e *wire.Error) {
	t.s.loop.srv.metrics.failed(0, e.Code)
	t.fail(oneLineOf(e.Error()))
}

// oneLineOf returns the text of an error without line breaks.
func oneLineOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}

// line writes a line of an answer.
func (t *text) line(format string, args ...any) {
	out := t.s.buffer()
	out.B = append(fmt.Appendf(out.B, format, args...), crlf...)
}

// work runs a blocking function on a worker, and then the function that it returned on the session's loop. Later commands
// wait meanwhile, so that a session never has more than one with the workers. An error of either is the answer. For reads see
// session.enqueue.
func (t *text) work(reads bool, block func() (then func(now time.Time) error, err error)) error {
	l := t.s.loop
	err := t.s.enqueue(reads, func() {
		then, err := block()
		l.post(jobFunc(func(now time.Time) { t.after(now, err, then) }))
	})
	if err == nil {
		t.s.pause()
	}
	return err
}

// after ends a pause: it finishes the command that waited, and then runs the commands behind it.
func (t *text) after(now time.Time, err error, then func(now time.Time) error) {
	if t.s.closed {
		return
	}
	t.s.backlog.paused = false
	if err == nil {
		err = then(now)
	}
	if err != nil {
		t.failError(asWireError(err))
	}
	if !t.s.backlog.paused {
		t.s.proceed(now)
	}
}

// textWait is a command that waits until what it changed is durable.
type textWait struct {
	t    *text
	then func(now time.Time) error
}

func (w *textWait) acknowledged(_ *partition.Partition, _ ack, err error) {
	w.t.after(w.t.s.loop.srv.opts.Now(), err, w.then)
}

// waitFor pauses the session until an entry has reached a level, and then answers with a line.
func (t *text) waitFor(p *partition.Partition, index uint64, level wire.Level, line string) {
	t.s.pause()
	t.s.loop.awaitLevel(p, ack{index: index, level: level, to: &textWait{t, func(time.Time) error {
		t.line("+OK %s", line)
		return nil
	}}})
}

func (t *text) help([]string, time.Time) error {
	t.line("PUB subject [reply] bytes, SUB subject [queue] id, UNSUB id [max], PING: as in NATS")
	for _, v := range humanVerbs() {
		t.line("%s: %s", strings.TrimSpace(v.name+" "+v.usage), v.about)
	}
	t.line("+OK")
	return nil
}

func (t *text) quit([]string, time.Time) error {
	t.line("+OK bye")
	t.s.close()
	return nil
}

func (t *text) stats(_ []string, now time.Time) error {
	if err := t.s.allowed(actionDescribe, ""); err != nil {
		return err
	}
	l := t.s.loop
	l.settleTurn(now) // the statistics include the current turn
	return t.tell(func(out []byte) []byte { return fmt.Appendf(out, "+OK %s\r\n", l.srv.statsJSON(now)) })
}

// tell answers with what a worker appends: it looks at every partition, of which there may be thousands.
func (t *text) tell(answer func(out []byte) []byte) error {
	return t.work(true, func() (func(time.Time) error, error) {
		body := answer(nil)
		return func(time.Time) error {
			out := t.s.buffer()
			out.B = append(out.B, body...)
			return nil
		}, nil
	})
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// errPlace is the error for an argument that does not name a partition or record.
var errPlace = wire.Errorf(wire.CodeInvalid, "a partition is written topic/partition and a record topic/partition@offset")

// place is a partition that the user may read and, behind "@", an offset in words.
func (t *text) place(s string) (p *partition.Partition, offset string, err error) {
	s, offset, _ = strings.Cut(s, "@")
	slash := strings.LastIndexByte(s, '/')
	if slash < 0 {
		return nil, "", errPlace
	}
	number, err := strconv.ParseUint(s[slash+1:], 10, 16)
	if err != nil {
		return nil, "", errPlace
	}
	topic, err := t.find(s[:slash])
	if err != nil {
		return nil, "", err
	}
	if p = topic.Partition(uint16(number)); p == nil {
		return nil, "", partition.NoPartition(topic, uint16(number))
	}
	return p, offset, p.Err()
}

// find returns a topic if the user may read it.
func (t *text) find(name string) (*partition.Topic, error) {
	if err := t.s.allowed(actionConsume, name); err != nil {
		return nil, err
	}
	topic := t.s.loop.srv.registry.Topic(name)
	if topic == nil {
		return nil, t.s.loop.srv.registry.NotFound(name)
	}
	return topic, nil
}

func parseOffset(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, wire.Errorf(wire.CodeInvalid, "%q is not an offset", s)
	}
	return n, nil
}

// parseCount parses an optional number of records.
func parseCount(args []string, at, fallback, limit int) (int, error) {
	if len(args) <= at {
		return fallback, nil
	}
	n, err := strconv.Atoi(args[at])
	if err != nil || n < 1 {
		return 0, wire.Errorf(wire.CodeInvalid, "%q is not a number of records", args[at])
	}
	return min(n, limit), nil
}
