package server

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A loop that has more work than fits in one turn does the rest later, after sessions whose input has arrived meanwhile. A
// posted job would run before them, because gnet runs all posted functions before it looks at sockets again. So the loop has
// a socket of its own, and writes to its other end.

// nudge is the context of that socket's connection, in place of a session.
type nudge struct{}

// startNudge opens the socket.
func (g *gnetLoop) startNudge() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("open a socket pair: %w", err)
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	g.nudger = os.NewFile(uintptr(pair[1]), "nudge")
	end := os.NewFile(uintptr(pair[0]), "nudge")
	conn, err := net.FileConn(end)
	if closed := end.Close(); err == nil {
		err = closed
	}
	if err == nil {
		_, err = g.client.EnrollContext(conn, nudge{})
	}
	if err != nil {
		return fmt.Errorf("enrol a socket pair: %w", err)
	}
	g.loop.nudge = func() {
		_, _ = g.nudger.Write([]byte{0}) // an error means that the loop has ended
	}
	return nil
}

// laters are the jobs that were given to later.
type laters struct {
	putOff []job
	nudged bool // their turn will come
}

// later runs a job in a turn of its own, after sessions whose input has arrived; a loop without a nudge runs it in the next
// turn. It returns false when the loop has ended, so that the job will not run.
func (l *loop) later(j job) bool {
	if l.inbox.ended() {
		return false
	}
	l.putOff = append(l.putOff, j)
	if l.nudge != nil && !l.nudged {
		l.nudged = true
		l.nudge()
	}
	return true
}

// runLaters runs the jobs that were given to later, and those that were posted.
func (l *loop) runLaters(now time.Time) {
	l.nudged = false
	jobs := l.putOff
	l.putOff = nil
	l.runInbox(now)
	for _, j := range jobs {
		l.runJob(j, now)
	}
	l.endTurn(now)
}

// leaveTurn leaves the inbox at the end of a turn. A driver that cannot be nudged finds the jobs for later there.
func (l *loop) leaveTurn() {
	if l.nudge != nil {
		l.leave(nil)
		return
	}
	jobs := l.putOff
	l.putOff = nil
	l.leave(jobs)
}
