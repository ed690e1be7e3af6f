package log

import "github.com/rafka-mq/rafka/wire"

// counters are what a log counts under its lock.
type counters struct {
	bytes   int64 // of the entries held
	entries uint64
	records uint64
	corrupt map[lostRange]struct{}
}

type lostRange struct{ first, next uint64 }

func (c *counters) appended(st *wire.Stamp) {
	c.bytes += int64(st.Size())
	c.entries++
	c.records += uint64(st.Count)
}

func (c *counters) dropped(records, entries uint64, bytes int64) {
	c.bytes -= bytes
	c.entries -= min(entries, c.entries)
	c.records -= min(records, c.records)
}
