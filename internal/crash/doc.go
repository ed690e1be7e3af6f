// Package crash holds the test that kills brokers. A broker runs in a process of its own, producers,
// a queue worker and a committing group work against it, and at random moments it is killed with
// SIGKILL and started again on the same data. Afterwards every acknowledged record must be there
// once, in its place and byte for byte, nothing may be there that was never sent, and nothing that
// was seen or settled may be undone, nor what was purged or deleted. Another test ends the file system
// under the data as well, as a power failure does: nothing counts but what was flushed.
package crash
