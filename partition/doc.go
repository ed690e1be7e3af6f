// Package partition knows which topics exist and what may be read from and written to each of their
// partitions.
//
// Its nouns: a Registry is every topic of one broker, kept in a log of its own; a Topic is a name
// with a configuration and partitions; a Partition joins one log with the consumer state of its
// groups and queues; a Watcher is told when a partition moved.
//
//	r, err := partition.Open(store, partition.Options{})
//	t, err := r.Create("orders", 3, nil)
//	base, index, duplicate, err := t.Partition(0).Publish(&batch, nowMs)
//
// Three positions matter: appended, durable, and visible. Visible follows from the topic's
// durability level: at level disk consumers see only what is on the disk.
//
// Everything that waits, waits the same way. Whoever waits registers one Watcher per partition, keeps
// its own list of what it waits for, and looks at the positions again after the Watcher fired. An
// acknowledgement, a long poll, a push subscription and a queue worker differ only in what they look
// for.
//
// Publish, Read, Commit, the queue operations and the position methods never wait for a disk and may
// be called on an event loop. The methods of Registry wait for the disk.
//
// Locks: Partition.mu before the log's own lock; Registry.mu before neither. No lock is held while a
// Watcher fires.
package partition
