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
	t.pause()
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
// wait meanwhile. An error of either is the answer.
func (t *text) work(block func() (then func(now time.Time) error, err error)) error {
	l := t.s.loop
	err := l.srv.enqueue(func() {
		then, err := block()
		l.post(jobFunc(func(now time.Time) { t.after(now, err, then) }))
	})
	if err == nil {
		t.pause()
	}
	return err
}

// after ends a pause: it finishes the command that waited, and then runs the commands behind it.
func (t *text) after(now time.Time, err error, then func(now time.Time) error) {
	if t.s.closed {
		return
	}
	t.paused = false
	if err == nil {
		err = then(now)
	}
	if err != nil {
		t.failError(asWireError(err))
	}
	if !t.paused {
		t.resume(now)
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
	t.pause()
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
	if err := t.s.allowed(ActionDescribe, ""); err != nil {
		return err
	}
	t.line("+OK %s", t.s.loop.statsJSON(now))
	return nil
}

func (t *text) topics([]string, time.Time) error {
	n := 0
	for _, topic := range t.s.loop.srv.registry.Topics() {
		if !allows(t.s.who, ActionDescribe, topic.Name()) {
			continue
		}
		n++
		info := topic.Info()
		var records, bytes uint64
		for _, p := range info.Partitions {
			records += p.Visible - min(p.First, p.Visible)
			bytes += p.Bytes
		}
		t.line("%s partitions=%d records=%d bytes=%d durability=%s",
			info.Topic, len(info.Partitions), records, bytes, topic.Config().Level)
	}
	t.line("+OK %s", counted(n, "topic"))
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func (t *text) topic(args []string, _ time.Time) error {
	name, registry := args[0], t.s.loop.srv.registry
	if topic := registry.Topic(name); topic != nil {
		return t.showTopic(topic, len(args) > 1)
	}
	if err := t.s.allowed(ActionAdmin, name); err != nil {
		return err
	}
	partitions, settings, err := parseSettings(args[1:])
	if err != nil {
		return err
	}
	return t.work(func() (func(time.Time) error, error) {
		topic, err := registry.Create(name, partitions, settings)
		return func(time.Time) error {
			t.line("+OK topic %q created with %s", name, counted(len(topic.Partitions()), "partition"))
			return nil
		}, err
	})
}

// parseSettings parses key=value arguments. partitions is 0 when it is not among them.
func parseSettings(args []string) (partitions int, settings []wire.Setting, err error) {
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		switch {
		case !ok:
			return 0, nil, wire.Errorf(wire.CodeInvalid, "%q is not of the form setting=value", arg)
		case key == "partitions":
			if partitions, err = strconv.Atoi(value); err != nil || partitions < 1 {
				return 0, nil, wire.Errorf(wire.CodeInvalid, "%q is not a number of partitions", value)
			}
		default:
			settings = append(settings, wire.Setting{Key: key, Value: value})
		}
	}
	return partitions, settings, nil
}

// statusNames are the texts for wire.Status.
var statusNames = [...]string{
	wire.StatusOK: "ok", wire.StatusReadOnly: "read-only", wire.StatusFull: "full", wire.StatusForeign: "foreign",
}

func (t *text) showTopic(topic *partition.Topic, create bool) error {
	if err := t.s.allowed(ActionDescribe, topic.Name()); err != nil {
		return err
	}
	if create {
		return wire.Errorf(wire.CodeTopicExists, "topic %q exists", topic.Name())
	}
	info := topic.Info()
	for i, p := range info.Partitions {
		t.line("%s/%d first=%d visible=%d next=%d bytes=%d status=%s",
			info.Topic, i, p.First, p.Visible, p.Next, p.Bytes, statusNames[p.Status])
	}
	for _, s := range info.Settings {
		t.line("%s=%s", s.Key, s.Value)
	}
	t.line("+OK topic %q has %s", info.Topic, counted(len(info.Partitions), "partition"))
	return nil
}

// errPlace is the error for an argument that does not name a partition or record.
var errPlace = wire.Errorf(wire.CodeInvalid, "a partition is written topic/partition and a record topic/partition@offset")

// place is a partition and, behind "@", an offset in words.
func (t *text) place(s string, action Action) (p *partition.Partition, offset string, err error) {
	s, offset, _ = strings.Cut(s, "@")
	slash := strings.LastIndexByte(s, '/')
	if slash < 0 {
		return nil, "", errPlace
	}
	number, err := strconv.ParseUint(s[slash+1:], 10, 16)
	if err != nil {
		return nil, "", errPlace
	}
	topic, err := t.find(s[:slash], action)
	if err != nil {
		return nil, "", err
	}
	if p = topic.Partition(uint16(number)); p == nil {
		return nil, "", partition.NoPartition(topic, uint16(number))
	}
	return p, offset, p.Err()
}

// find returns a topic if the user may do action on it.
func (t *text) find(name string, action Action) (*partition.Topic, error) {
	if err := t.s.allowed(action, name); err != nil {
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

func (t *text) commit(args []string, now time.Time) error {
	p, _, err := t.place(args[0], ActionConsume)
	if err != nil {
		return err
	}
	offset, err := parseOffset(args[1])
	if err != nil {
		return err
	}
	index, err := p.Commit(args[2], offset, 0, now)
	if err != nil {
		return err
	}
	t.waitFor(p, index, p.StateLevel(), fmt.Sprintf("%s goes on at %s@%d", args[2], p, offset))
	return nil
}

func (t *text) committed(args []string, _ time.Time) error {
	topic, err := t.find(args[1], ActionConsume)
	if err != nil {
		return err
	}
	n := 0
	for _, p := range topic.Partitions() {
		if c, ok := p.Committed(args[0]); ok {
			n++
			t.line("%s offset=%d", p, c.Offset)
		}
	}
	t.line("+OK %s", counted(n, "partition"))
	return nil
}

func (t *text) groups(args []string, now time.Time) error {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	infos := t.s.loop.srv.groupInfos(t.s.who, name, func(p *partition.Partition) []wire.GroupInfo { return p.Groups(now) })
	for _, g := range infos {
		if g.Mode == "queue" {
			t.line("%s %s/%d mode=queue offset=%d end=%d lag=%d leased=%d retrying=%d dead=%d",
				g.Group, g.Topic, g.Partition, g.Offset, g.End, g.Lag, g.InFlight, g.Retrying, g.Dead)
			continue
		}
		t.line("%s %s/%d mode=%s offset=%d end=%d lag=%d", g.Group, g.Topic, g.Partition, g.Mode, g.Offset, g.End, g.Lag)
	}
	t.line("+OK %s", counted(len(infos), "line"))
	return nil
}
