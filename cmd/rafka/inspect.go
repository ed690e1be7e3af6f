package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// item is one line of rafka inspect.
type item struct {
	Kind      string `json:"kind"`
	Path      string `json:"path"`
	Pos       int64  `json:"pos"`
	Bytes     int64  `json:"bytes"`
	Topic     string `json:"topic,omitempty"` // the topic's id
	Name      string `json:"name,omitempty"`  // the topic's name, if the checkpoint has it
	Partition uint32 `json:"partition,omitempty"`
	First     uint64 `json:"first,omitempty"`
	Next      uint64 `json:"next,omitempty"`
	Index     uint64 `json:"index,omitempty"`
	Lsn       uint64 `json:"lsn,omitempty"`
	Sealed    bool   `json:"sealed,omitempty"`
	Entry     string `json:"entry,omitempty"` // the kind of entry
	Time      string `json:"time,omitempty"`
	Damage    string `json:"damage,omitempty"`
}

var entryKinds = map[wire.Kind]string{
	wire.KindData: "data", wire.KindTerm: "term", wire.KindConfig: "config", wire.KindState: "state",
}

func newItem(it log.Item) item {
	o := item{
		Kind: string(it.Kind), Path: it.Path, Pos: it.Pos, Bytes: it.Bytes,
		First: it.First, Next: it.Next, Index: it.Index, Lsn: it.Lsn, Sealed: it.Sealed,
	}
	if it.Identity != (wire.Identity{}) {
		o.Topic, o.Partition = uuid.UUID(it.Identity.Topic).String(), it.Identity.Partition
	}
	if it.Kind == log.ItemEntry {
		o.Entry = entryKinds[it.Stamp.Kind]
		o.Time = time.UnixMilli(it.Stamp.Time).UTC().Format(time.RFC3339Nano)
	}
	if it.Err != nil {
		o.Damage = it.Err.Error()
	}
	return o
}

// String returns the line for a person. The indentation shows what contains what.
func (o item) String() string {
	indent := map[string]string{"log": "  ", "chunk": "  ", "entry": "    ", "damage": "    "}[o.Kind]
	s := fmt.Sprintf("%s%s at %d, %d bytes", indent, o.Kind, o.Pos, o.Bytes)
	if indent == "" {
		s = fmt.Sprintf("%s  %s, %s", o.Path, o.Kind, humanize.IBytes(uint64(o.Bytes)))
	}
	if o.Topic != "" {
		s += fmt.Sprintf("  %s/%d", o.Topic, o.Partition)
	}
	if o.Name != "" {
		s += fmt.Sprintf(" (%s)", o.Name)
	}
	if o.Next > 0 || o.Index > 0 {
		s += fmt.Sprintf("  offsets [%d, %d) index %d", o.First, o.Next, o.Index)
	}
	if o.Entry != "" {
		s += "  " + o.Entry + "  " + o.Time
	}
	if o.Lsn > 0 {
		s += fmt.Sprintf("  lsn %d", o.Lsn)
	}
	if o.Sealed {
		s += "  sealed"
	}
	if o.Damage != "" {
		s += "  DAMAGED: " + o.Damage
	}
	return s
}

func (c *cli) inspectCommand() *cobra.Command {
	var entries bool
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "print what is inside the files of a data directory",
		Long: `Print the checkpoint, the segments and the commit log of a data directory, and with --entries every
entry in them. Topics have their names if the checkpoint has them: it lacks those that were created just
before a broker was killed. Nothing is changed or locked. While a broker uses the directory, the output may be
incomplete.`,
		Example: "  rafka inspect ./data\n  rafka inspect ./data --entries -o jsonl",
		Args:    exactly(1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkDataDir(args[0]); err != nil {
				return err
			}
			all, names := []item{}, topicNames(args[0])
			for it, err := range log.Inspect(args[0]) {
				if err != nil {
					return unreadable(err)
				}
				if it.Kind == log.ItemEntry && !entries {
					continue
				}
				o := newItem(it)
				o.Name = names[it.Identity.Topic]
				switch c.output {
				case "json":
					all = append(all, o)
				case "jsonl":
					if err := c.printJSON(o); err != nil {
						return err
					}
				default:
					if _, err := fmt.Fprintln(c.stdout, harmless(o.String())); err != nil {
						return err
					}
				}
			}
			if c.output == "json" {
				return c.printJSON(all)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&entries, "entries", false, "also print every entry")
	return cmd
}

// verification is what rafka verify prints.
type verification struct {
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Chunks  uint64 `json:"chunks"`
	Entries uint64 `json:"entries"`
	Records uint64 `json:"records"`
	Waiting uint64 `json:"commit_records"`
	Damage  []item `json:"damage"`
	More    int    `json:"more_damage"`
	Torn    int    `json:"torn"`

	Unsealed []item `json:"unsealed"` // segments without a footer that have all of their entries
}

func (c *cli) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "check every checksum in a data directory",
		Long: `Read every file of a data directory, check every checksum, and check that the consumer state in the
checkpoint can be read. Nothing is changed. The exit code is 1 when there is damage, and when a newer
version wrote the directory. A torn end of the commit log is no damage: after a crash it holds what was
never acknowledged as durable, and the next start cuts it. Nor is a segment without a footer that has all
of its records: a write failed behind them and the next segment has what was to be written, or something
cleared the footer, whose index a broker makes again from the records. These segments are named, and
counted as torn. The records counted include those of the broker's own topics, and those that retention
has not removed yet.`,
		Args: exactly(1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkDataDir(args[0]); err != nil {
				return err
			}
			r, err := log.Verify(args[0])
			if err != nil {
				return unreadable(err)
			}
			v := verification{
				Files: r.Files, Bytes: r.Bytes, Chunks: r.Chunks, Entries: r.Entries, Records: r.Records, Waiting: r.Waiting,
				Damage: []item{}, More: r.More, Torn: r.Torn, Unsealed: []item{},
			}
			for _, it := range r.Unsealed {
				it.Kind, it.Err = log.ItemSegment, nil // nothing is damaged
				v.Unsealed = append(v.Unsealed, newItem(it))
			}
			for _, it := range r.Damage {
				v.Damage = append(v.Damage, newItem(it))
			}
			states, err := damagedStates(args[0])
			if err != nil {
				return unreadable(err)
			}
			v.Damage = append(v.Damage, states...)
			return c.printVerification(args[0], &v)
		},
	}
}

// printVerification prints the result of rafka verify. Damage is a failure.
func (c *cli) printVerification(dir string, v *verification) error {
	err := c.printOne(v, [][2]string{
		{"files", fmt.Sprint(v.Files)},
		{"bytes", humanize.IBytes(uint64(v.Bytes))},
		{"chunks", fmt.Sprint(v.Chunks)},
		{"entries", fmt.Sprint(v.Entries)},
		{"records", fmt.Sprintf("%d in segments, %d more in the commit log", v.Records, v.Waiting)},
		{"torn", fmt.Sprint(v.Torn)},
		{"unsealed", fmt.Sprint(len(v.Unsealed))},
		{"damaged", fmt.Sprint(len(v.Damage) + v.More)},
	})
	if !c.asJSON() {
		for _, s := range v.Unsealed {
			c.sayf("note: %s has no footer at byte %d: its records are intact, and its index is made again", s.Path, s.Pos)
		}
	}
	if err != nil || len(v.Damage) == 0 {
		return err
	}
	if !c.asJSON() {
		for _, d := range v.Damage {
			c.sayf("%s at byte %d: %s", d.Path, d.Pos, d.Damage)
		}
	}
	return &failure{
		exit: exitFailed, name: "DAMAGED", err: fmt.Errorf("%s in %s", plural(uint64(len(v.Damage)+v.More), "damaged place"), dir),
		hint: "a broker can run on this directory, and reports the lost ranges; restore a backup to get them back",
	}
}

// newerHint is what to do about a data directory of a newer version.
const newerHint = "a newer rafka wrote this directory: use that version"

// unreadable tells what a newer version wrote from other reasons why a data directory cannot be read.
func unreadable(err error) error {
	if errors.Is(err, log.ErrVersion) {
		return &failure{exit: exitFailed, name: "NEWER_FORMAT", err: err, hint: newerHint}
	}
	return err
}

// damagedStates returns the logs whose state in the checkpoint cannot be read although its checksum is right. The error
// is log.ErrVersion when a newer version wrote one.
func damagedStates(dir string) (list []item, err error) {
	for it, err := range log.Inspect(dir) {
		if err != nil {
			return nil, err
		}
		if it.Kind != log.ItemCheckpoint && it.Kind != log.ItemLog {
			break // the checkpoint has ended, files follow
		}
		bad := partition.CheckState(it.Identity, it.State)
		if errors.Is(bad, log.ErrVersion) {
			return nil, fmt.Errorf("%s: %w", it.Path, bad)
		}
		if it.Kind == log.ItemLog && bad != nil {
			it.Kind, it.Err = log.ItemDamage, bad
			list = append(list, newItem(it))
		}
	}
	return list, nil
}

// topicNames returns the names of the topics in the checkpoint by their ids, or nil.
func topicNames(dir string) map[[16]byte]string {
	for it, err := range log.Inspect(dir) {
		if err != nil || it.Kind != log.ItemCheckpoint && it.Kind != log.ItemLog {
			break // the checkpoint has ended, files follow
		}
		if it.Kind == log.ItemLog && it.Identity == (wire.Identity{}) {
			names, _ := partition.TopicNames(it.State) // ids are shown anyway
			return names
		}
	}
	return nil
}

// checkDataDir returns an error unless dir is a data directory.
func checkDataDir(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "commit")); err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return &failure{
				exit: exitNotFound, name: "NO_DATA", err: fmt.Errorf("%s is not a data directory", dir),
				hint: "name the directory that is given to rafka serve --data",
			}
		}
		return err
	}
	return nil
}
