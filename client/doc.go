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
// # Outcomes of a publish
//
// A publish has one of three outcomes. It was appended: there is a Receipt, whose Level is the durability
// reached. It was not appended: the error says why, and is not ErrUnknownOutcome. Or the outcome is
// unknown: the connection broke, or the context ended, after the message was sent. That error is
// ErrUnknownOutcome; publishing the message again may store it twice. The client itself numbers the
// messages it sends: one whose answer was lost with the connection is sent again on the next connection,
// for up to Options.RequestTimeout, and stored once, in order. Options.NoIdempotence switches that off.
//
// # Memory
//
// Received messages are views of the buffer they arrived in; each method says how long they are
// valid. Message.Clone makes a copy to keep. A published message is copied before the call returns.
//
// # Groups
//
// The members of a group, in any number of processes, share the partitions of its topics. A partition moves
// from one member to another when its owner has finished the message it is handling and committed, or has
// taken longer than Source.HandoverTimeout; other members are not interrupted. Messages reads a group or a
// queue in a loop; OpenGroup and OpenQueue fetch batches. A message is committed only after its handler
// returned, and only by the member that owns the partition.
//
// # What the package does not do
//
// It does not detect that a program publishes the same message twice. A Consumer that is running does
// not notice partitions that are added to its topic; publishers, groups and queues do.
package client
