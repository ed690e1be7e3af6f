package partition

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A subject that a topic has before and after a change of its subjects is the topic's at every moment in between.
func TestASubjectThatStaysIsNeverUnbound(t *testing.T) {
	n := openNode(t, "", Options{})
	topic := n.create("jobs", 1)
	var stop, lost atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if n.Bound([]byte("jobs")) != topic {
				lost.Store(true)
			}
		}
	})
	for range 5000 {
		for _, subjects := range []string{"jobs,other.*", ""} {
			_, err := n.Alter("jobs", 0, pairs("subjects", subjects))
			require.NoError(t, err)
		}
	}
	stop.Store(true)
	wg.Wait()
	require.False(t, lost.Load())
}
