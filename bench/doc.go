// Package bench measures brokers.
//
// Its nouns: a Load is what a user runs against any broker through the Go client; a floor is the least
// work that could do the same job (a blocking sink, an echo, a bare pwrite and fdatasync); a scenario
// is one figure of ours beside its floor; a Report is the medians of alternating rounds.
//
// A figure without its floor in the same run says nothing on a shared machine. So Compare starts our
// broker and the floors as processes of their own, runs each of them once per round, in turn, and
// divides medians. Every scenario checks what it was told: counts, offsets, checksums.
package bench
