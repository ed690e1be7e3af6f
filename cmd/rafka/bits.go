//go:build 386 || arm || mips || mipsle

package main

// The broker maps whole files and counts bytes in ints, which 32 bits do not hold. The compiler says so, not a broker
// that stops under load. Clients of 32 bits are fine: package client does without.
var _ = the_broker_needs_a_64_bit_processor
