package server

import (
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

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
