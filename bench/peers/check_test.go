package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// message returns the payload of a message.
func message(publisher, sequence uint64) []byte {
	p := make([]byte, 32)
	stamp(p, publisher<<publisherShift|sequence)
	return p
}

func TestACheckerFindsWhatIsWrong(t *testing.T) {
	f := func(want string, sent int, payloads ...[]byte) {
		t.Helper()
		var c checker
		for _, p := range payloads {
			c.take(p)
		}
		require.Equal(t, want, c.verdict(sent))
	}
	broken := message(0, 1)
	broken[30]++
	f("", 3, message(0, 0), message(0, 1), message(0, 2))
	f("", 3, message(0, 0), message(1, 0), message(0, 1))
	f("lost: 1", 3, message(0, 0), message(0, 2))
	f("lost: 2", 3, message(0, 0))
	f("out of order: 1", 3, message(0, 0), message(0, 2), message(0, 1))
	f("too many: 1, out of order: 1", 1, message(0, 0), message(0, 0))
	f("damaged: 1", 2, message(0, 0), broken)
	f("damaged: 2", 2, message(maxPublishers, 0), []byte("short"))
}

func TestAQueueMayDeliverInAnyOrderButOnce(t *testing.T) {
	f := func(want string, sent int, payloads ...[]byte) {
		t.Helper()
		var s onceChecker
		for _, p := range payloads {
			s.take(p)
		}
		require.Equal(t, want, s.verdict(sent))
	}
	f("", 3, message(0, 2), message(0, 0), message(1, 100_000))
	f("lost: 1", 2, message(0, 1))
	f("lost: 1, repeated: 1", 2, message(0, 1), message(0, 1))
	f("repeated: 1", 1, message(0, 1), message(0, 1))
	f("damaged: 1", 1, message(0, 1), []byte("short"))
}

func TestAReceiverSaysHowFarItIs(t *testing.T) {
	var r receiver
	var heads []uint64
	r.delivered = func(head uint64) { heads = append(heads, head) }
	for i := range uint64(checkEvery) {
		r.take(message(2, i))
	}
	require.Equal(t, checkEvery, r.reached())
	r.take(message(2, checkEvery))
	require.Equal(t, checkEvery, r.reached(), "not each one is announced")
	r.take(message(2, checkEvery+1|lastBit))
	require.Equal(t, checkEvery+2, r.reached(), "the last one is")
	require.Len(t, heads, checkEvery+2)
	waitReceived([]*receiver{&r}, checkEvery+2)
}
