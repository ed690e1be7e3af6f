package log

import "github.com/rafka-mq/rafka/wire"

// Keep removes the entries from c for which keep returns false. Next stays as it is, so that reading continues behind
// them. keep must not keep the entry.
func (c *Chunk) Keep(keep func(e *wire.Entry) bool) {
	c.kept = c.kept[:0]
	for _, b := range c.Slices {
		c.keepOf(b, keep)
	}
	c.Slices, c.kept = c.kept, c.Slices
	clear(c.kept)
	c.kept = c.kept[:0]
}

// keepOf appends the runs of kept entries in one slice to kept.
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
