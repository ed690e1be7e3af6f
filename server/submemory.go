package server

import "github.com/rafka-mq/rafka/log"

// Memory of subscriptions.
const (
	// maxSubBytes bounds the memory of a session's subscriptions: about a million live ones.
	maxSubBytes = 256 << 20
	// subBytes is about the memory of a live subscription in bytes, besides its names.
	subBytes = 200
	// starBytes is for each further "*" in its pattern: that and the tokens behind it may need nodes of their own.
	starBytes = 256
	// pushBytes is about the memory of a push subscription, besides its filter.
	pushBytes = 400
)

// subLimit returns how much memory the subscriptions of all sessions together may take: a quarter of what there is.
func subLimit() int64 { return max(maxSubBytes, log.AvailableMemory()/4) }

// liveBytes returns about the memory of a live subscription whose pattern, queue group and note have names bytes together.
func liveBytes[T ~string | ~[]byte](pattern T, names int) int {
	stars := 0
	for i := range len(pattern) {
		if pattern[i] == '*' {
			stars++
		}
	}
	return subBytes + names + starBytes*max(0, stars-1)
}

// roomForSub reports whether the session may have another subscription of size bytes.
func (s *session) roomForSub(size int) bool {
	return int(s.subBytes)+size <= maxSubBytes && s.loop.srv.subBytes.Load()+int64(size) <= s.loop.srv.subLimit
}

// countSub notes that the subscriptions of the session take size bytes more, or less.
func (s *session) countSub(size int) {
	s.subBytes += int32(size)
	s.loop.srv.subBytes.Add(int64(size))
}
