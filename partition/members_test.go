package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pause that is sent again must not be answered before the first one is durable.
func TestAPauseThatChangesNothingIsAsDurableAsTheOneBefore(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	for _, pause := range []bool{true, false} {
		index, err := p.Pause("workers", pause, time.Now())
		require.NoError(t, err)
		require.Positive(t, index)
		again, err := p.Pause("workers", pause, time.Now())
		require.NoError(t, err)
		require.Equal(t, index, again)
	}
}
