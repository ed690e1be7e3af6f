// Package client publishes messages to a Rafka broker and reads them back: as a plain stream, as a
// member of a group with committed offsets, or from a queue whose messages are settled one by one.
//
// The first program:
//
//	c, err := client.Dial(ctx, "127.0.0.1:4222", client.Options{})
//	receipt, err := c.Publish(ctx, &client.Message{Topic: "orders", Key: []byte("alice"), Value: []byte("hello")})
//	err = c.Run(ctx, client.Queue("mailer", "orders"), func(ctx context.Context, m *client.Message) error {
//		return send(m.Value) // nil acknowledges the message; after an error it is delivered again
//	})
//	err = c.Close(ctx)
//
// The main types:
//
//   - A [Client] is one login at one broker. It reconnects when the connection breaks.
//   - A [Message] is what is published and received. A [Receipt] says where a published message was
//     stored, and how durably.
//   - A [Source] names a group or a queue. [Client.Run] calls a [Handler] for each of its messages,
//     and [Client.Messages] reads it in a loop. [GroupConsumer] and [QueueConsumer] are for programs
//     that fetch batches themselves.
//   - A [Consumer] is a stream of messages for which the broker stores no position. A [Position] says
//     where it starts.
//   - A [Listener] receives what is sent to subjects, which is not stored, and answers requests.
//
// # Outcomes of a publish
//
// A publish has one of three outcomes:
//
//   - The message was stored. The Receipt holds the level of durability that was reached.
//   - The message was not stored. The error says why, and is not [ErrUnknownOutcome].
//   - The outcome is unknown, because the connection broke or the context ended after the message was
//     sent. The error is ErrUnknownOutcome. Publishing the message again may store it twice.
//
// The client numbers its messages, so that the broker recognizes one that it has already stored. When
// a connection breaks before a message is answered, the client sends the message again on the next
// connection, for up to Options.RequestTimeout. The broker stores it once, and in order.
// Options.NoIdempotence turns the numbering off.
//
// # Contexts
//
// An error that is due to a context wraps the cause of the context: [context.Canceled] or
// [context.DeadlineExceeded], unless the program has set another one. A request whose context has no
// deadline takes at most Options.RequestTimeout. What waits for messages, and a publish, has no limit
// but the context.
//
// # Memory
//
// A published message is copied before the call returns. A received message may point into a buffer
// that is used again; the documentation of each method says how long its messages are valid.
// [Message.Clone] makes a copy that stays valid. A handler or a loop must not change the message that it
// is given, because the next one is put in its place. To publish it elsewhere, it changes a copy:
//
//	out := *m
//	out.Topic = "archive"
//	receipt, err := c.Publish(ctx, &out)
//
// # Groups
//
// The members of a group, in any number of processes, share the partitions of its topics. A message is
// committed only after its handler has returned, and only by the member that owns the partition. When
// a partition moves to another member, its owner first finishes the message it is handling and
// commits, for at most Source.HandoverTimeout. Members that keep their partitions are not interrupted.
//
// # What the package does not do
//
// It does not detect by itself that a program publishes the same message twice; set Message.ID on a
// topic with a dedupe window for that. A Consumer that is running does not notice partitions that are
// added to its topic; publishers, groups and queues do.
package client
