// Package client talks to a Rafka broker: it publishes messages and reads them back, as a plain
// stream, as a group with committed offsets, or as a queue whose messages are settled one by one.
//
// The first program:
//
//	c, err := client.Dial(ctx, "127.0.0.1:4222", client.Options{})
//	receipt, err := c.Publish(ctx, &client.Message{Topic: "orders", Key: []byte("alice"), Value: []byte("hello")})
//	err = c.Run(ctx, client.Queue("mailer", "orders"), func(ctx context.Context, m *client.Message) error {
//		return send(m.Value) // nil acknowledges, an error has the message delivered again later
//	})
//	err = c.Close(ctx)
//
// Its nouns: a Client is one login at one broker, repaired when the connection breaks; a Message is
// sent and received; a Receipt says where a published message landed and how safe it is there; a
// Position says where reading starts; a Consumer is a pushed stream without state on the broker; a
// Source names a group or a queue for Run; a Listener hears what is sent to live subjects, which are
// not stored, and answers requests.
//
// # What a publish can come to
//
// A publish has one of three outcomes. It was appended: there is a Receipt, whose Level is the
// durability reached. It was not appended: the error says why, and is not ErrUnknownOutcome. Or
// nobody can know: the connection broke, or the context ended, after the message left. That error
// is ErrUnknownOutcome; publishing the message again may store it twice. The client itself numbers
// what it sends: a message whose answer was lost with the connection is sent again on the next one,
// for up to Options.RequestTimeout, and stored once, in order. Options.NoIdempotence switches that off.
//
// # Memory
//
// Received messages are views of the buffer they arrived in; each method says how long they are
// valid. Message.Clone makes a copy to keep. A published message is copied before the call returns.
//
// # Groups
//
// The members of a group, in any number of processes, share the partitions of its topics. A partition
// goes from one member to another when the first one has finished the message in hand and committed, or
// took longer than Source.HandoverTimeout; the others notice nothing. Messages reads a group or a queue
// in a loop, OpenGroup and OpenQueue fetch batches. Nothing is committed that a handler has not returned
// from, and nothing by a member that has lost the partition.
//
// # What the package does not do
//
// It does not detect that a program publishes the same message twice. A Consumer that is running does
// not notice partitions that are added to its topic; publishers, groups and queues do.
package client
