package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestPlacesListRunsOfPartitions(t *testing.T) {
	f := func(want string, list ...wire.MemberPartition) {
		t.Helper()
		require.Equal(t, want, places(list))
	}
	at := func(topic string, partitions ...int) (list []wire.MemberPartition) {
		for _, p := range partitions {
			list = append(list, wire.MemberPartition{Topic: topic, Partition: p, Generation: uint32(p)})
		}
		return list
	}
	f("-")
	f("a/0", at("a", 0)...)
	f("a/0-1", at("a", 0, 1)...)
	f("a/0-2,5,7-8", at("a", 0, 1, 2, 5, 7, 8)...)
	f("a/3 b/4", append(at("a", 3), at("b", 4)...)...)
	f("a/1 b/0-1", append(at("a", 1), at("b", 0, 1)...)...)
	f("a/0,2,4,6,8,10,12,14 and 3 more", at("a", 0, 2, 4, 6, 8, 10, 12, 14, 16, 17, 18)...)
}

func TestLongDurationsAreInDays(t *testing.T) {
	f := func(want string, d time.Duration) {
		t.Helper()
		require.Equal(t, want, rounded(d, time.Second))
	}
	f("0s", time.Millisecond)
	f("1m30s", 90*time.Second)
	f("47h59m59s", 48*time.Hour-time.Second)
	f("2d0h", 48*time.Hour-time.Millisecond)
	f("1129d18h", 27114*time.Hour+59*time.Minute)
}
