package log

import "github.com/rafka-mq/rafka/wire"

// Keep drops the entries of c for which keep returns false: what a reader is not to see. Next stays, so
// reading goes on behind them. keep must not hold on to the entry.
func (c *Chunk) Keep(keep func(e *wire.Entry) bool) {
	c.kept = c.kept[:0]
	for _, b := range c.Slices {
		c.keepOf(b, keep)
	}
	c.Slices, c.kept = c.kept, c.Slices
	clear(c.kept)
	c.kept = c.kept[:0]
}

// keepOf adds the runs of kept entries of one slice to kept.
func (c *Chunk) keepOf(b []byte, keep func(e *wire.Entry) bool) {
	from := -1
	for pos := 0; pos < len(b); {
		e, rest, err := wire.ViewEntry(b[pos:])
		if err != nil {
			panic("log: chunk does not hold whole entries: " + err.Error())
		}
		end := len(b) - len(rest)
		switch kept := keep(&e); {
		case kept && from < 0:
			from = pos
		case !kept:
			c.Bytes -= end - pos
			c.Dropped += int(e.Count)
			if from >= 0 {
				c.kept = append(c.kept, b[from:pos:pos])
			}
			from = -1
		}
		pos = end
	}
	if from >= 0 {
		c.kept = append(c.kept, b[from:len(b):len(b)])
	}
}
