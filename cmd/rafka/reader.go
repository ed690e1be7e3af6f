package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errNoReader ends a command that waits for messages when nobody reads what it prints.
var errNoReader = errors.New("nobody reads the output any more")

// readerPoll is how often untilUnread looks.
const readerPoll = 100 * time.Millisecond

// untilUnread returns a context that ends with errNoReader when the reader of stdout is gone, as in rafka sub | head -1:
// the next message, whose printing would end the process, may be long in coming. stop ends the watching.
func (c *cli) untilUnread(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(readerPoll)
		defer tick.Stop()
		for !readerGone(c.stdout) {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel(errNoReader)
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// readerGone reports whether out is a pipe or a socket whose reader has closed it.
func readerGone(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
