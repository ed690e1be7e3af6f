package client

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A member that has looked up where it begins neither commits that on another topic of the name, nor reads that one
// from there.
func TestAMemberDoesNotBeginOnAnotherTopicOfTheName(t *testing.T) {
	for name, at := range map[string]wire.Op{"it has no position": wire.OpCommit, "it has one": wire.OpCommitted} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // when the connection breaks decides what the client has seen
				beginOnAnother(t, at)
			}
		})
	}
}

func beginOnAnother(t *testing.T, at wire.Op) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 1, texts(5)...)
	if at == wire.OpCommitted {
		topic.committed["g"] = map[uint16]uint64{0: 5}
	}
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != at {
			return false
		}
		b.setHook(nil)
		if at == wire.OpCommitted { // the client hears this, and nothing more from the first topic
			_ = c.commits(f)
			_ = c.nc.Close()
		}
		b.remove("t")
		b.create("t", 1)
		b.fill("t", 0, 1, texts(9)...)
		return at == wire.OpCommitted
	})
	c := dial(t, b, Options{})
	s := Group("g", "t")
	s.From = End()
	err := c.Run(within(t), s, func(_ context.Context, m *Message) error {
		t.Errorf("offset %d", m.Offset)
		return nil
	})
	require.ErrorIs(t, err, wire.CodeTopicDeleted)
	committed, err := c.Committed(within(t), "g", "t")
	require.NoError(t, err)
	require.Empty(t, committed)
}
