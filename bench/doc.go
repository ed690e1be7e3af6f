// Package bench measures brokers.
//
// Its nouns: a Load is the work that a user runs against any broker through the Go client; a floor is
// the least work that could do the same job (a blocking sink, an echo, a bare pwrite and fdatasync); a
// scenario measures one figure of our broker and its floor; a Report holds the medians of alternating
// rounds.
//
// On a shared machine a figure means little without its floor from the same run. So Compare starts our
// broker and the floors as separate processes, runs each of them once per round, in turn, and divides
// the medians. Every scenario checks the answers that it gets: counts, offsets, checksums.
//
// Scale measures how the broker's rate and latency change as one quantity grows. Soak runs a mix of
// loads for a long time and reports whether memory, garbage collection or latency grow.
package bench
