// Package log is the storage of Rafka: it keeps the entries of many partitions in memory and in one
// data directory.
//
// Its nouns: a Store is one data directory, or memory only; a Log is one partition in it; a slab is
// a piece of off-heap memory that holds the newest entries; the commit log is the one file that all
// partitions write ahead to; a segment is a file with older entries of one partition; a checkpoint
// moves entries from memory to segments and says what the commit log no longer needs to hold.
//
//	s, err := log.Open(log.Options{Dir: dir})
//	l, err := s.OpenLog(wire.Identity{Topic: topic, Partition: 0}, log.Config{Notify: notify})
//	base, index, err := l.Append(log.Batch{Kind: wire.KindData, Count: 1, Term: 1, Payload: batch})
//	l.Flush(wire.LevelDisk) // notify is called when the entry is on the disk
//	err = l.Read(&chunk, base, base+1, 1<<20)
//	defer chunk.Release()
//
// Append, Flush, Positions and Read never wait for a disk and never allocate; they may be called on
// an event loop. Everything else may block. The package knows three positions of a partition:
// appended (Next), in the kernel (Written) and on the device (Durable). What consumers may see is
// the caller's decision, passed to Read as a limit.
//
// It does not know topics by name, groups, or the network, and it does not repair: a damaged batch
// is reported as a CorruptError with the range of offsets that is lost, and everything else stays
// readable at the same offsets. docs/storage.md describes the files.
package log
