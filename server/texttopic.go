package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

func (t *text) topics([]string, time.Time) error {
	registry, who := t.s.loop.srv.registry, t.s.who
	return t.tell(func(out []byte) []byte {
		n := 0
		for _, topic := range registry.Topics() {
			if !allows(who, actionDescribe, topic.Name()) {
				continue
			}
			n++
			info := topic.Info()
			var records, bytes uint64
			for _, p := range info.Partitions {
				records += p.Visible - min(p.First, p.Visible)
				bytes += p.Bytes
			}
			out = fmt.Appendf(out, "%s partitions=%d records=%d bytes=%d durability=%s\r\n",
				info.Topic, len(info.Partitions), records, bytes, topic.Config().Level)
		}
		return fmt.Appendf(out, "+OK %s\r\n", counted(n, "topic"))
	})
}

func (t *text) topic(args []string, _ time.Time) error {
	name, registry := args[0], t.s.loop.srv.registry
	if topic := registry.Topic(name); topic != nil && allows(t.s.who, actionDescribe, name) {
		return t.showTopic(topic, len(args) > 1)
	}
	if err := t.s.allowed(actionAdmin, name); err != nil {
		return err
	}
	partitions, settings, err := parseSettings(args[1:])
	if err == nil {
		err = t.s.mayBind(settings)
	}
	if err != nil {
		return err
	}
	return t.work(false, func() (func(time.Time) error, error) {
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
