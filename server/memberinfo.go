package server

import (
	"encoding/json"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// listMembers answers with the members of one group or of all groups.
func (b *binary) listMembers(f wire.Frame, _ time.Time) error {
	var m wire.Groups
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	co, correlation, who := b.s.loop.srv.coordinator, f.Correlation, b.s.who
	return b.coordinate(f, func(now time.Time) {
		body, err := json.Marshal(co.describe(m.Group, who, now))
		if err == nil && len(body) > maxFetchBytes {
			err = wire.Errorf(wire.CodeTooLarge, "the list of members is over %d bytes; ask for one group", maxFetchBytes)
		}
		if err != nil {
			b.answerLater(wire.OpMembers, correlation, err)
			return
		}
		b.post(func(b *binary) {
			b.replyTo(wire.OpMembers, correlation, 0, func(dst []byte) []byte { return append(dst, body...) })
		})
	})
}

// describe returns the groups with members that read a topic which the user may see.
func (co *coordinator) describe(name string, who *auth.Principal, now time.Time) []wire.GroupMembers {
	list := []wire.GroupMembers{}
	for _, g := range co.group.Groups(name) {
		out := wire.GroupMembers{Group: g.Group, Generation: g.Generation, Rebalances: g.Rebalances, Members: []wire.GroupMember{}}
		for i := range g.Members {
			if m, visible := describeMember(&g.Members[i], who, now); visible {
				out.Members = append(out.Members, m)
			}
		}
		if len(out.Members) > 0 {
			list = append(list, out)
		}
	}
	return list
}

func describeMember(m *group.MemberInfo, who *auth.Principal, now time.Time) (out wire.GroupMember, visible bool) {
	out = wire.GroupMember{
		Member: m.Member, Instance: m.Instance, Connection: m.Connection,
		Topics: []string{}, Partitions: []wire.MemberPartition{}, Age: ageOf(m.Joined, now), Silent: ageOf(m.Heard, now),
	}
	for _, t := range m.Topics {
		if allows(who, actionDescribe, t) {
			out.Topics = append(out.Topics, t)
		}
	}
	for _, h := range m.Held {
		if allows(who, actionDescribe, h.Topic) {
			out.Partitions = append(out.Partitions, wire.MemberPartition{Topic: h.Topic, Partition: int(h.Number), Generation: h.Generation})
		}
	}
	return out, len(out.Topics) > 0
}

// holders returns which member holds which partition of which group. It waits for the coordinator, so it must not be called
// on an event loop.
func (srv *Server) holders() map[holding]string {
	held := map[holding]string{}
	srv.coordinator.ask(func(time.Time) {
		for _, g := range srv.coordinator.group.Groups("") {
			for _, m := range g.Members {
				name := m.Instance
				if name == "" {
					name = m.Member
				}
				for _, h := range m.Held {
					held[holding{g.Group, h.Topic, int(h.Number)}] = name
				}
			}
		}
	})
	return held
}

// holding is a partition of a group.
type holding struct {
	group, topic string
	partition    int
}

// nameHolders fills in the members that hold the partitions.
func (srv *Server) nameHolders(infos []wire.GroupInfo) {
	held := srv.holders()
	for i := range infos {
		g := &infos[i]
		if g.Mode == "group" {
			g.Member = held[holding{g.Group, g.Topic, g.Partition}]
		}
	}
}
