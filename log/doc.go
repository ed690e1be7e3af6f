// Package log is the storage of Rafka: it keeps the entries of many partitions in memory and in one
// data directory.
//
// Its nouns: a Store is one data directory, or memory only; a Log is one partition in it; a slab is
// a piece of off-heap memory that holds the newest entries; the commit log is the write-ahead log that
// all partitions share; a segment is a file with older entries of one partition; a checkpoint copies
// entries from memory to segments, which is called filing, and says which part of the commit log is no
// longer needed.
//
//	s, err := log.Open(log.Options{Dir: dir})
//	l, err := s.OpenLog(wire.Identity{Topic: topic, Partition: 0}, log.Config{Notify: notify})
//	base, index, err := l.Append(log.Batch{Kind: wire.KindData, Count: 1, Term: 1, Payload: batch})
//	l.Flush(wire.LevelDisk) // notify is called when the entry is on the disk
//	err = l.Read(&chunk, base, base+1, 1<<20)
//	defer chunk.Release()
//
// Append, Flush, Positions and Read never wait for a disk and never allocate; they may be called on
// an event loop. Everything else may block. The package tracks three positions of a partition:
// appended (Next), in the kernel (Written) and on the device (Durable). The caller decides what
// consumers may see, and passes it to Read as a limit.
//
// The package does not know the names of topics, groups, or the network. It does not repair: a damaged
// batch is reported as a CorruptError with the range of offsets that is lost, and everything else stays
// readable at the same offsets. docs/storage.md describes the files.
package log
