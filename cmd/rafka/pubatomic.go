package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// pubAtomic publishes all lines of the input as one batch. They must fit in one frame.
func (c *cli) pubAtomic(ctx context.Context, cl *client.Client, p *publication) error {
	in, err := c.open(p.file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	start := time.Now()
	var ms []*client.Message
	size := 0
	err = eachLine(ctx, in, func(line []byte) error {
		if size += len(line); size > wire.MaxFrameBytes {
			return wire.Errorf(wire.CodeTooLarge, "lines that are stored together have at most %d bytes", wire.MaxFrameBytes)
		}
		m, err := p.lineMessage(bytes.Clone(line))
		ms = append(ms, m)
		return err
	})
	if err != nil {
		return err
	}
	if len(ms) == 0 {
		c.sayf("published 0 messages to %s: there are no lines", p.topic)
		return nil
	}
	asking, cancel := c.asking(ctx)
	defer cancel()
	r, err := cl.PublishAtomic(asking, ms...)
	if err != nil {
		return err
	}
	c.sayf("published %s to %s as one batch in %s", plural(uint64(len(ms)), "message"), p.topic, time.Since(start).Round(time.Millisecond))
	if c.asJSON() {
		return c.printJSON(newReceipt(r))
	}
	_, err = fmt.Fprintln(c.stdout, newReceipt(r))
	return err
}
