package log

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/wire"
)

// leastFileLimit has room for a commit log file with one chunk of the largest slab, and for a segment with one entry.
const leastFileLimit = 2 * wire.MaxFrameBytes

// fileSizeLimit returns the size of the largest file that the process may write.
func fileSizeLimit() int64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &r); err != nil || r.Cur > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(r.Cur)
}

// checkFileLimit refuses a limit of the size of files that the commit log does not fit.
func (o *Options) checkFileLimit() error {
	if need := max(o.CommitFileBytes, leastFileLimit); o.fileLimit < need {
		return fmt.Errorf("files may have at most %d bytes, and the commit log needs %d: %w", o.fileLimit, need, unix.EFBIG)
	}
	if most := o.segmentLimit(); most < o.SegmentBytes {
		o.Logger.Warn("the size of files is limited: segments are smaller", "bytes", most)
	}
	return nil
}

// segmentLimit returns the size at which a segment must be sealed for the file to stay within the limit: it can get one
// more entry, and a footer of less than a hundredth of its size.
func (o *Options) segmentLimit() int64 { return o.fileLimit - o.fileLimit/32 - wire.MaxFrameBytes }
