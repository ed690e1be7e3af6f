// Package server is the broker: it accepts connections, speaks the protocols and moves bytes between
// connections and partitions.
//
//	s, err := server.New(server.Options{Dir: "data"})
//	err = s.Start()
//	defer s.Shutdown(ctx)
//
// Its nouns: a loop is an event loop, which owns sessions and everything that waits for them; a session is
// the protocol state of one connection, bytes in and bytes out; a transport is the connection under a
// session; a watch is everything on a loop that waits for one partition; a job is work that is posted to a
// loop from elsewhere.
//
// Sessions never block and never touch a socket: a transport is a gnet connection, an in-memory pipe or a
// test. Work that blocks (cold reads, metadata) runs on workers, which post the result back to the loop.
// All state of a session and of a loop belongs to the loop's goroutine; only a loop's inbox is shared.
//
// A file is named after what it serves. Those that begin with text are the text protocol, with live the
// messages that nobody stores, with admin the HTTP server, and with collector, metrics and stats the figures.
package server
