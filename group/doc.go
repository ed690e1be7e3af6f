// Package group is what the consumers of one partition have told the broker: the committed offsets
// of ordered groups, and the queues whose messages are leased, acknowledged and delivered again. It
// also decides which member of an ordered group works on which partition.
//
// Its nouns: a State is everything about one partition; a Commit is how far an ordered group has
// read; a Queue hands every message to one worker at a time; a Lease is the right to work on a
// range of messages until a moment; a Settle is what a worker says about such a range; a Dead
// letter is a message that used up its deliveries or was rejected; a Coordinator knows the members
// of ordered groups.
//
// The package is pure. It does no I/O, starts no goroutine, takes no lock and reads no clock: time
// is an argument. A State belongs to whoever serialises the calls, and that is the partition.
//
// # Plan and Apply
//
// Every durable change is a command: a few bytes that the partition writes to its own log and then
// applies. A Plan function looks and changes nothing; Apply changes and looks at nothing but the
// command and what was applied before. So the state after a restart, or on another node, is the
// state after the same commands:
//
//	leases := q.Lease(leases[:0], 100, visible, 0, connection, now)
//	cmd, lost := q.PlanAck(buf[:0], settles)
//	if cmd != nil {
//		// write cmd to the log, and when it is as durable as the topic asks:
//		err := state.Apply(cmd)
//	}
//
// Planning the same settle twice before the first is applied gives two commands; the second one
// changes nothing.
//
// Leases are soft: they are in no command and in no snapshot. After a restart every message that
// was leased and not settled can be delivered at once, with its attempts counted as of its last
// logged failure. Delivery is therefore at least once, and never less.
//
// # Order by key
//
// A queue with Policy.OrderByKey has at most one message of a key in flight. It knows no records, so
// its owner tells it a hash of every key, in offset order, before the messages are leased; see
// Queue.WantsKeys. The keys are soft, too: after a restart they are learned again.
//
// # Limits
//
// Times are kept in milliseconds. A queue stops taking fresh messages while MaxInFlight of them are
// neither done nor fresh (MaxOrdered with order by key), and stops leasing at all while MaxDead dead
// letters wait for the broker.
//
// # Members
//
// A Coordinator shares the partitions of topics among the members of ordered groups. All of it is
// soft; what ties it to the durable state is the fence: every time a member gets a partition the
// coordinator makes a generation, the partition's State is told with SetFence, and MayCommit refuses
// commits of any other. So who lost a partition cannot commit on it, however late it notices.
package group
