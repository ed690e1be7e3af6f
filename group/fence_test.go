package group

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommitsNeedTheGenerationOfTheHolder(t *testing.T) {
	s := New()
	require.NoError(t, s.MayCommit("g", 0))
	require.ErrorIs(t, s.MayCommit("g", 7), errFenced, "there are no members")
	s.SetFence("g", 7)
	require.NoError(t, s.MayCommit("g", 7))
	require.ErrorIs(t, s.MayCommit("g", 6), errFenced)
	require.ErrorIs(t, s.MayCommit("g", 0), errFenced)
	require.NoError(t, s.MayCommit("other", 0))
	s.SetFence("g", 0)
	for generation := range uint32(9) {
		require.ErrorIs(t, s.MayCommit("g", generation), errFenced, "nobody holds the partition")
	}
	restored, err := Restore(s.AppendSnapshot(nil))
	require.NoError(t, err)
	require.NoError(t, restored.MayCommit("g", 0), "fences are soft")
	s.LiftFence("g")
	require.NoError(t, s.MayCommit("g", 0))
}

func TestOnlyAMembersCommitCanBeLate(t *testing.T) {
	s := New()
	require.False(t, s.IsLate("g", 0, 7), "nothing is committed")
	require.NoError(t, s.Apply(AppendCommit(nil, "g", 5, t0)))
	require.True(t, s.IsLate("g", 4, 7))
	require.False(t, s.IsLate("g", 5, 7))
	require.False(t, s.IsLate("g", 6, 7))
	require.False(t, s.IsLate("g", 4, 0))
	require.False(t, s.IsLate("h", 4, 7))
}

func TestPausesAreDurableAndEndWithTheGroup(t *testing.T) {
	s := New()
	require.NoError(t, s.Apply(AppendPause(nil, "g", true)))
	require.True(t, s.Paused("g"))
	require.False(t, s.Paused("h"))
	restored, err := Restore(s.AppendSnapshot(nil))
	require.NoError(t, err)
	require.True(t, restored.Paused("g"))
	require.NoError(t, restored.Apply(AppendPause(nil, "g", false)))
	require.False(t, restored.Paused("g"))
	require.NoError(t, s.Apply(AppendDrop(nil, "g")))
	require.False(t, s.Paused("g"))
}

func TestPausedGroupsAreBounded(t *testing.T) {
	s := New()
	require.ErrorIs(t, s.CheckPause(""), errName)
	for i := range MaxGroups {
		require.NoError(t, s.Apply(AppendPause(nil, fmt.Sprint(i), true)))
	}
	require.NoError(t, s.CheckPause("17"))
	require.ErrorIs(t, s.CheckPause("more"), ErrTooMany)
	require.ErrorIs(t, s.Apply(AppendPause(nil, "more", true)), ErrTooMany)
	_, err := Restore(s.AppendSnapshot(nil))
	require.NoError(t, err)
}
