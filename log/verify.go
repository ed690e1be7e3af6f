package log

import (
	"errors"

	"github.com/rafka-mq/rafka/wire"
)

// Report is the result of Verify.
type Report struct {
	Files   int    // files with entries, and the checkpoint
	Bytes   int64  // size of those files
	Chunks  uint64 // intact chunks in the commit log
	Entries uint64 // intact entries in segments
	Records uint64 // in those entries
	Waiting uint64 // records that are only in the commit log, because no checkpoint has filed them yet
	Damage  []Item // of kind ItemDamage, at most 1,000
	More    int    // damaged places beyond those
	Torn    int    // torn tails, which are no damage: of the commit log, and of the segments in Unsealed

	// Unsealed are segments without a footer that have all of their entries, at most 1,000: a write to them failed,
	// or something cleared the footer. Pos is where the entries end.
	Unsealed []Item
}

// OK reports whether nothing is damaged.
func (r *Report) OK() bool { return len(r.Damage) == 0 }

// Verify checks every checksum in a data directory without changing it. It continues behind damage, which is in the
// report. The error is one of reading files.
func Verify(dir string) (Report, error) { return VerifyFS(OS, dir) }

// VerifyFS is Verify on another file system.
func VerifyFS(f FS, dir string) (Report, error) {
	var r Report
	inCommits := false
	held := map[wire.Identity]uint64{} // index of the last entry of a log that was counted
	for it, err := range InspectFS(f, dir) {
		if err != nil {
			return r, err
		}
		switch it.Kind {
		case ItemCheckpoint, ItemSegment, ItemCommitFile:
			r.Files++
			r.Bytes += it.Bytes
			inCommits = it.Kind == ItemCommitFile
		case ItemChunk:
			r.Chunks++
		case ItemEntry:
			r.count(&it, inCommits, held)
		case ItemDamage:
			r.note(it)
		}
	}
	return r, nil
}

// note adds damage or a torn tail.
func (r *Report) note(it Item) {
	const most = 1000
	switch {
	case it.Torn:
		r.Torn++
		if errors.Is(it.Err, errNoFooter) && len(r.Unsealed) < most {
			r.Unsealed = append(r.Unsealed, it)
		}
	case len(r.Damage) < most:
		r.Damage = append(r.Damage, it)
	default:
		r.More++
	}
}

// count counts an entry. Segments come before the commit log, which may have some of their entries, too.
func (r *Report) count(it *Item, inCommits bool, held map[wire.Identity]uint64) {
	fresh := it.Index > held[it.Identity]
	if fresh {
		held[it.Identity] = it.Index
	}
	records := uint64(0)
	if it.Stamp.Kind == wire.KindData {
		records = uint64(it.Stamp.Count)
	}
	switch {
	case !inCommits:
		r.Entries++
		r.Records += records
	case fresh && it.Counted:
		r.Waiting += records
	}
}
