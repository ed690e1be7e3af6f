package server

import (
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

func (t *text) commit(args []string, now time.Time) error {
	p, _, err := t.place(args[0])
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
	topic, err := t.find(args[1])
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
	srv, who := t.s.loop.srv, t.s.who
	return t.tell(func(out []byte) []byte {
		infos := srv.groupInfos(who, name, func(p *partition.Partition) []wire.GroupInfo { return p.Groups(now) })
		for _, g := range infos {
			out = fmt.Appendf(out, "%s %s/%d mode=%s offset=%d end=%d lag=%d", g.Group, g.Topic, g.Partition, g.Mode, g.Offset, g.End, g.Lag)
			if g.Mode == "queue" {
				out = fmt.Appendf(out, " leased=%d retrying=%d dead=%d", g.InFlight, g.Retrying, g.Dead)
			}
			out = append(out, crlf...)
		}
		return fmt.Appendf(out, "+OK %s\r\n", counted(len(infos), "line"))
	})
}
