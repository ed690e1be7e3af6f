package partition

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// A start that finds something that a newer version wrote, in a checkpoint or behind it, ends before it changes a file.
func TestAStartThatFindsANewerVersionChangesNothing(t *testing.T) {
	newerGroups := group.New().AppendSnapshot(nil)
	sum := len(newerGroups) - 4
	newerGroups[0]++
	binary.LittleEndian.PutUint32(newerGroups[sum:], crc32.Checksum(newerGroups[:sum], crc32.MakeTable(crc32.Castagnoli)))
	newerCommit := group.AppendDrop(nil, "g")
	newerCommit[0]++
	const id = "01234567-89ab-7def-8123-456789abcdef"
	meta := wire.KindConfig
	for name, c := range map[string]struct {
		meta  bool
		state string
		kind  wire.Kind
		entry string
	}{
		"topics":                 {meta: true, state: `{"version":2}`},
		"a setting":              {meta: true, state: `{"version":1,"topics":{"1":{"id":"` + id + `","settings":{"new":"x"}}}}`},
		"a change of the topics": {meta: true, kind: meta, entry: `{"version":2}`},
		"a setting of a change":  {meta: true, kind: meta, entry: `{"put":{"id":"` + id + `","settings":{"new":"x"}}}`},
		"producers":              {state: "RP\x03"},
		"groups":                 {state: string(newerGroups)},
		"groups of producers":    {state: "RP\x01" + string(rune(len(newerGroups))) + string(newerGroups) + "\x00"},
		"a command":              {kind: wire.KindState, entry: string(newerCommit)},
		"used numbers":           {kind: wire.KindState, entry: "RP\x02"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := diskWith(t, c.meta, c.state, c.kind, c.entry)
			before := disk.Clone()
			o := log.Options{FS: disk, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20}
			o.RefuseState, o.RefuseEntry = RefuseState, RefuseEntry
			_, err := log.Open(o)
			require.ErrorIs(t, err, log.ErrVersion)
			require.Equal(t, before.Names(), disk.Names())
			for _, name := range before.Names() {
				require.Equal(t, before.Bytes(name), disk.Bytes(name), name)
			}

			o.RefuseState, o.RefuseEntry = nil, nil // whoever does not ask is refused later
			s, err := log.Open(o)
			require.NoError(t, err)
			_, err = Open(s, true, Options{})
			require.ErrorIs(t, err, log.ErrVersion)
			require.NoError(t, s.Close())
		})
	}
}

// diskWith returns the disk of a killed broker whose metadata, or only partition, has a state in its checkpoint or, without
// one, an entry behind it.
func diskWith(t *testing.T, meta bool, state string, kind wire.Kind, entry string) *faultfs.Disk {
	disk := faultfs.New()
	s, err := log.Open(log.Options{FS: disk, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	require.NoError(t, err)
	r, err := Open(s, true, Options{})
	require.NoError(t, err)
	topic, err := r.Create("orders", 1, nil)
	require.NoError(t, err)
	p := topic.Partition(0)
	publish(t, p, "a")
	id, l := p.id, p.log
	if meta {
		id, l = wire.Identity{}, r.meta
	}
	if state != "" {
		l.SetConfig(log.Config{State: func() ([]byte, uint64) { return []byte(state), l.Positions().NextIndex - 1 }})
		require.NoError(t, s.Checkpoint())
		require.ErrorIs(t, CheckState(id, []byte(state)), log.ErrVersion)
	} else {
		_, _, err = l.Append(log.Batch{Kind: kind, Term: term, Payload: wire.AppendPayload(nil, []byte(entry))})
		require.NoError(t, err)
	}
	require.NoError(t, s.Sync())
	killed := disk.Clone()
	r.Close()
	require.NoError(t, s.Close())
	return killed
}
