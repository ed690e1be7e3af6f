// Package subject matches the subjects of live messages with the patterns of subscriptions.
//
// Its nouns: a subject is a list of tokens separated by dots, such as orders.eu.paid; a pattern is a
// subject whose tokens may be wildcards, "*" for any one token and, at the end, ">" for one or more; a
// Sub is one subscription: a pattern, a value, and optionally a queue group, of which one member gets
// each message; an Index holds Subs; Matches holds the Subs of an Index that match one subject.
//
//	x := subject.NewIndex[string]()
//	s := x.Insert([]byte("orders.*"), nil, nil, "all orders")
//	var m subject.Matches[string]
//	x.Match(&m, []byte("orders.eu"))
//	x.Remove(s)
//
// Match takes no lock and never waits for a change. Changes hold one lock, and publish every step with one
// atomic store, so that a concurrent match sees each subscription either completely or not at all.
//
// The package delivers nothing and knows nothing about connections.
package subject
