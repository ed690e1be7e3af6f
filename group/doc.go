// Package group holds the state of the consumers of one partition: the committed offsets of ordered
// groups, and the queues whose messages are leased, acknowledged and delivered again. It also decides
// which member of an ordered group works on which partition.
//
// Its nouns: a State is all of this for one partition; a Commit is how far an ordered group has read;
// a Queue hands every message to one worker at a time; a Lease is the right to work on a range of
// messages until a deadline; a Settle names a leased range that a worker has finished; a Dead letter
// is a message that used up its deliveries or was rejected; a Coordinator knows the members of ordered
// groups.
//
// The package is pure. It does no I/O, starts no goroutine, takes no lock and reads no clock: time
// is an argument. The caller serialises the calls; in the broker that is the partition.
//
// # Plan and Apply
//
// Every durable change is a command: a few bytes that the partition writes to its own log and then
// applies. A Plan function reads the state and changes nothing. The effect of Apply depends only on the
// command and on earlier commands. So the same commands lead to the same state after a restart, or on
// another node:
//
//	leases := q.Lease(leases[:0], 100, visible, 0, connection, now)
//	cmd, lost := q.PlanAck(buf[:0], settles)
//	if cmd != nil {
//		// append cmd to the log, then:
//		err := state.Apply(cmd)
//	}
//
// When the same settle is planned twice before the first command is applied, the second command changes
// nothing.
//
// Leases are soft: they are in no command and in no snapshot. After a restart, every message that was
// leased and not settled can be delivered at once, with the number of attempts of its last logged
// failure. Delivery is therefore at least once.
//
// # Order by key
//
// A queue with Policy.OrderByKey has at most one message of a key in flight. It does not see records,
// so the caller tells it a hash of every key, in offset order, before the messages are leased; see
// Queue.WantsKeys. The keys are soft, too: after a restart they are learned again.
//
// # Limits
//
// Times have a precision of a millisecond. A queue leases no fresh messages while MaxInFlight messages
// (maxOrdered with order by key) are neither done nor fresh, and leases nothing while MaxDead dead
// letters wait to be buried.
//
// # Members
//
// A Coordinator divides the partitions of topics among the members of ordered groups. All of its state
// is soft. The fence ties it to the durable state: whenever a member gets a partition, the coordinator
// makes a new generation, the caller passes it to the partition's State with SetFence, and MayCommit
// refuses commits with any other. So a member that lost a partition cannot commit on it, however late
// it notices.
package group
