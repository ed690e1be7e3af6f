// Package wire defines the bytes of Rafka: frames on a connection, record batches, and the entries that
// wrap a batch in the log. docs/protocol.md is the normative description.
//
// Its nouns: a Frame is one message on a connection; a Batch is the producer's records with the
// producer's checksum; an Entry is the broker's 48-byte stamp followed by a batch (or by the
// broker's own payload); a Record is one message inside a batch; a Code is a failure that may cross
// the network.
//
// A batch has one encoding. The producer builds it, the log stores it and the consumer receives it,
// byte for byte:
//
//	var b wire.BatchBuilder
//	b.Add(wire.Record{Key: []byte("alice"), Value: []byte("hello")})
//	body := b.Bytes()
//	batch, err := wire.ParseBatch(body)
//	for rec, err := range batch.Records() { … }
//
// The package does no I/O, starts no goroutine, reads no clock, and imports only the standard library and
// its checksum, crc32c. Parse functions return views into their input: a view is valid as long as the
// input is, and must not be modified. Append functions append to dst and return the extended slice. The
// sub-package codec compresses batches and opens compressed ones.
package wire
