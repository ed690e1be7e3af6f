// Package partition knows which topics exist, and what may be read from and written to each of their
// partitions.
//
// Its nouns: a Registry holds every topic of one broker and keeps them in a metadata log; a Topic is a
// name with a configuration and partitions; a Partition joins one log with the state of its groups and
// queues; a Watcher is called when a partition has changed.
//
//	r, err := partition.Open(store, true, partition.Options{})
//	t, err := r.Create("orders", 3, nil)
//	base, index, duplicate, err := t.Partition(0).Publish(&batch, nowMs)
//
// Three positions matter: appended, durable, and visible. The topic's durability level decides what is
// visible: at level disk, consumers see only records that are on the disk.
//
// All waiting works the same way. The waiter registers one Watcher per partition, keeps its own list of
// what it waits for, and checks the positions again after the Watcher fired. An acknowledgement, a long
// poll, a push subscription and a queue worker differ only in the condition they check.
//
// Publish, Read, Commit, the queue operations and the position methods never wait for the disk and may
// be called on an event loop. The methods of Registry that change topics, and methods whose comment says
// so, wait for the disk.
//
// Locks: Registry.mu, then Partition.mu, then the log's own lock; docs/architecture.md has the whole
// order. A Watcher may fire under Registry.mu, but under neither of the others.
package partition
