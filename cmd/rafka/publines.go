package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// lineBuffer is how much of the input is read at once. A line may be longer.
const lineBuffer = 1 << 20

// tally counts the outcomes of the lines. The client's goroutines call its methods.
type tally struct {
	c *cli

	printing sync.Mutex // held during writes, to keep receipts in order; taken before mu

	mu       sync.Mutex // guards the fields below
	pending  int        // sent, and not answered yet
	stored   int
	failed   int
	first    error  // the first failure
	receipts []byte // encoded receipts that are not printed yet
}

// send publishes m, and counts it until done counts its outcome.
func (t *tally) send(ctx context.Context, cl *client.Client, m *client.Message) error {
	t.mu.Lock()
	t.pending++
	t.mu.Unlock()
	err := cl.PublishAsync(ctx, m, t.done)
	if err != nil {
		t.mu.Lock()
		t.pending--
		t.mu.Unlock()
	}
	return err
}

func (t *tally) done(r client.Receipt, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending--
	if err != nil {
		t.failLocked(err)
		return
	}
	t.stored++
	if t.c.asJSON() {
		b, _ := encodeJSON(newReceipt(r), false) // a receipt always encodes
		t.receipts = append(t.receipts, b...)
	}
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failLocked(err)
}

func (t *tally) failLocked(err error) {
	t.failed++
	if t.first == nil {
		t.first = err
	}
}

// print writes the receipts that arrived since the last call.
func (t *tally) print() error {
	t.printing.Lock()
	defer t.printing.Unlock()
	t.mu.Lock()
	b := t.receipts
	t.receipts = nil
	t.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	_, err := t.c.stdout.Write(b)
	return err
}

// pubLines publishes every line of the input, and prints the number of them on stderr. Receipts are
// printed only as JSON, one on each line, in the order of their arrival.
func (c *cli) pubLines(ctx context.Context, cl *client.Client, p *publication) error {
	in, err := c.open(p.file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	start := time.Now()
	bar := c.progress(in, "publish")
	t := &tally{c: c}
	readErr := eachLine(ctx, bar.reader(in), func(line []byte) error { return p.send(ctx, cl, line, t) })
	flushErr := c.flush(ctx, cl)
	bar.finish()
	if err := t.print(); err != nil {
		return err
	}
	return t.report(p.topic, time.Since(start), errors.Join(readErr, flushErr))
}

// interruptGrace is how long what was sent may wait for its answers after an interrupt. A broker that is there answers
// sooner.
const interruptGrace = time.Second

// flush waits until everything that was sent is answered.
func (c *cli) flush(ctx context.Context, cl *client.Client) error {
	waiting, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := cl.Flush(waiting)
	if ctx.Err() == nil {
		return err
	}
	waiting, cancel = context.WithTimeout(context.WithoutCancel(ctx), min(c.timeout, interruptGrace))
	defer cancel()
	if err := cl.Flush(waiting); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// send publishes one line. It fails only when going on makes no sense.
func (p *publication) send(ctx context.Context, cl *client.Client, line []byte, t *tally) error {
	m, err := p.lineMessage(line)
	if err != nil {
		t.fail(err)
		return nil
	}
	if err := t.send(ctx, cl, m); err != nil {
		if wire.CodeOf(err) == wire.CodeInternal && !errors.Is(err, wire.CodeInternal) {
			return err // not a refusal of this message: the client is closed, or ctx has ended
		}
		t.fail(err)
	}
	return t.print()
}

// lineMessage returns the message of a line of the input, which it does not copy.
func (p *publication) lineMessage(line []byte) (*client.Message, error) {
	m := p.message()
	m.Value = line
	if !p.lineKey.used() {
		return m, nil
	}
	key, err := p.lineKey.of(line)
	if err != nil {
		return nil, fmt.Errorf("line %q: %w", line[:min(len(line), 40)], err)
	}
	m.Key = key
	return m, nil
}

// report says what was done, and returns the error that gives the exit code.
func (t *tally) report(topic string, took time.Duration, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.sayf("published %s to %s in %s", plural(uint64(t.stored), "message"), topic, took.Round(time.Millisecond))
	if t.pending > 0 {
		t.c.sayf("sent %s more without an answer: whether they are stored is not known", plural(uint64(t.pending), "message"))
	}
	switch {
	case t.failed == 0:
		return err
	case t.stored == 0 && err == nil:
		return t.first
	}
	return errors.Join(&failure{
		exit: exitPartly, name: "PARTLY_DONE",
		err: fmt.Errorf("%d of %d messages were not published; the first: %w", t.failed, t.failed+t.stored, t.first),
	}, err)
}

// eachLine calls fn for every line, without its line end. The line is valid until fn returns. When ctx ends, eachLine
// returns at once, and fn may be called once more.
func eachLine(ctx context.Context, r io.Reader, fn func(line []byte) error) error {
	_, err := untilDone(ctx, func() (none struct{}, err error) { return none, scanLines(ctx, r, fn) })
	return err
}

func scanLines(ctx context.Context, r io.Reader, fn func(line []byte) error) error {
	b := bufio.NewReaderSize(r, lineBuffer)
	var long []byte // the start of a line that is larger than the buffer
	for {
		part, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			if len(long) > wire.MaxFrameBytes {
				return tooLarge("a line")
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read lines: %w", err)
		}
		line := part
		if long != nil {
			long = append(long, part...)
			line, long = long, nil
		}
		if len(line) > 0 {
			if err := fn(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
		if err != nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// bar is a progress bar, or nothing when stderr is not a terminal.
type bar struct{ p *progressbar.ProgressBar }

// progress returns a bar over the bytes of in, if in is a file and stderr a terminal.
func (c *cli) progress(in io.Reader, what string) bar {
	f, ok := in.(*os.File)
	if !ok || !c.errTTY {
		return bar{}
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return bar{}
	}
	return bar{progressbar.NewOptions64(info.Size(), progressbar.OptionSetWriter(c.stderr),
		progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())}
}

func (b bar) reader(r io.Reader) io.Reader {
	if b.p == nil {
		return r
	}
	return io.TeeReader(r, b.p)
}

func (b bar) finish() {
	if b.p != nil {
		_ = b.p.Finish()
	}
}
