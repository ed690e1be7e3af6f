package log

import "github.com/rafka-mq/rafka/wire"

// Report is the result of Verify.
type Report struct {
	Files   int    // that hold entries, and the checkpoint
	Bytes   int64  // of those files
	Chunks  uint64 // intact chunks in the commit log
	Entries uint64 // intact entries in segments
	Records uint64 // in those entries
	Damage  []Item // of kind ItemDamage, at most 1,000
	More    int    // damaged places beyond those
}

// OK reports whether nothing is damaged. A torn tail of the commit log counts as damage here; opening
// the store cuts it.
func (r *Report) OK() bool { return len(r.Damage) == 0 }

// Verify checks every checksum of a data directory without changing it. It goes on behind damage.
// The error is one of reading; damage is in the report.
func Verify(dir string) (Report, error) { return VerifyFS(OS, dir) }

// VerifyFS is Verify on another file system.
func VerifyFS(f FS, dir string) (Report, error) {
	const most = 1000
	var r Report
	inCommits := false
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
			if !inCommits {
				r.Entries++
				if it.Stamp.Kind == wire.KindData {
					r.Records += uint64(it.Stamp.Count)
				}
			}
		case ItemDamage:
			if len(r.Damage) < most {
				r.Damage = append(r.Damage, it)
			} else {
				r.More++
			}
		}
	}
	return r, nil
}
