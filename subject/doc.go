// Package subject matches the subjects of live messages with the patterns of subscriptions.
//
// Its nouns: a subject is tokens with dots between them, such as orders.eu.paid; a pattern is a
// subject whose tokens may be wildcards, "*" for any one token and, at the end, ">" for one or more;
// a Sub is one subscription, a pattern with a value and possibly a queue group, of whose members one
// gets each message; an Index holds Subs; Matches is what an Index has for one subject.
//
//	x := subject.NewIndex[string]()
//	s := x.Insert("orders.*", "", "all orders")
//	var m subject.Matches[string]
//	x.Match(&m, []byte("orders.eu"))
//	x.Remove(s)
//
// Matching takes no lock and never waits for a change. Changes take one lock among themselves and
// publish every step with one atomic store, so that a match that runs beside them sees each
// subscription either whole or not at all.
//
// The package does not deliver anything and knows nothing of connections.
package subject
