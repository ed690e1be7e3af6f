package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
)

// What a flood of one user's refused requests hides are its own.
func TestAUsersDenialsHideNobodyElses(t *testing.T) {
	var log bytes.Buffer
	b, _ := newBench(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ann, bob := limited("ann", "a"), limited("bob", "b")
	ann.Password, bob.Password = "a", "b"
	users := policy(t, auth.Config{Users: []auth.User{ann, bob}})
	denied := func(user string, times int) (lines int) {
		t.Helper()
		who, err := users.Login(&auth.Credentials{User: user, Password: user[:1]})
		require.NoError(t, err)
		b.s.who = who
		log.Reset()
		for range times {
			b.s.denied(actionPublish, "secret")
		}
		return strings.Count(log.String(), "user="+user)
	}
	require.Less(t, denied("ann", 1000), 100)
	require.Equal(t, 10, denied("bob", 10))
	a := newAudit()
	for n := range 3 * maxAudited {
		a.denialsOf(fmt.Sprint(n))
	}
	require.LessOrEqual(t, len(a.denials), maxAudited)
}
