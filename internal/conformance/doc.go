// Package conformance drives a broker with NATS clients as their users do: nats.go, the nats command
// line tool and nats.js. It holds tests only.
//
// The tool and nats.js are fetched by `make conformance`; without them their tests are skipped.
package conformance
