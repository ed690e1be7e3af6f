package client

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of many results some are released. Those that are not keep their messages.
func TestReleasedMemoryIsNotOfOtherResults(t *testing.T) {
	b := startBroker(t)
	const messages, bytes = 20, 200 << 10 // an answer of one message is a large frame
	b.create("t", 1)
	value := func(i int) string { return fmt.Sprint(i) + strings.Repeat(string(rune('a'+i%26)), bytes) }
	for i := range messages {
		b.fill("t", 0, 1, value(i))
	}
	c := dial(t, b, Options{})
	kept := make([]Fetched, 0, messages)
	for i := range messages {
		f, err := c.Fetch(within(t), FetchRequest{Topic: "t", From: At(uint64(i)), MaxBytes: 1})
		require.NoError(t, err)
		require.Len(t, f.Messages, 1)
		if i%2 == 1 {
			f.Release()
			require.Nil(t, f.Messages)
			require.EqualValues(t, i+1, f.Next, "the rest of the result stays")
			f.Release()
			continue
		}
		kept = append(kept, f)
	}
	for i, f := range kept {
		require.Equal(t, value(2*i), string(f.Messages[0].Value))
	}
	new(Fetched).Release()
}
