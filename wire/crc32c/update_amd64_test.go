//go:build !purego

package crc32c

import "testing"

// Processors differ in what they have. All of them must agree.
func TestTheSumIsTheSameWithoutInstructions(t *testing.T) {
	fold, short := hasFold, hasCRC32
	t.Cleanup(func() { hasFold, hasCRC32 = fold, short })
	for _, has := range [][2]bool{{false, true}, {false, false}} {
		hasFold, hasCRC32 = has[0] && fold, has[1] && short
		TestTheSumIsThatOfHashCRC32(t)
		TestKnownSums(t)
		TestSumsOfManyAreThoseOfEach(t)
		TestHeadsAreSealed(t)
	}
}
