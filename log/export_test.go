package log

import "hash/crc32"

// NewerCheckpoint returns a checkpoint file of the next format version.
func NewerCheckpoint() []byte {
	b := (&checkpoint{}).append(nil)
	half := b[:len(b)/2]
	le.PutUint32(half[8:], formatVersion+1)
	le.PutUint32(half[12:], 0)
	le.PutUint32(half[12:], crc32.Checksum(half, castagnoli))
	copy(b[len(b)/2:], half)
	return b
}

// OpenStill opens a store without its goroutines, for tests that open thousands. Sync and Checkpoint
// work.
func OpenStill(o Options) (*Store, error) { return openStill(o) }

// Drop ends a store as a kill would: nothing is written.
func (s *Store) Drop() { s.abandon() }
