package main

// conn is a connection to a server through a client made for the system. What else it can do depends on
// which of the interfaces below it has; a system without one has no figure in scenarios that need it.
type conn interface {
	// create creates the topics that do not exist yet.
	create(keep keeping, topics ...string) error
	close() error
}

// keeping says how much a topic in memory retains. Drivers ignore it where a bound does not make the
// system faster. Files retain everything.
type keeping bool

const (
	keepAll    keeping = false
	keepRecent keeping = true // about the last recentBytes
)

// recentBytes bounds a topic in memory when a scenario does not read it later. Memory that a server
// reuses costs less than new memory from the system.
const recentBytes = 128 << 20

// sender publishes to the current subscribers, without acknowledgements.
type sender interface {
	// send publishes the work and returns when the server has received all of it.
	send(topic string, w *work) error
}

// publisher publishes to topics that are stored.
type publisher interface {
	// publish publishes the work to the topics in turn and returns when all of it is acknowledged. At
	// most window messages are unacknowledged; with 0 the driver chooses what is fastest.
	publish(topics []string, w *work, window int) error
	// publishOne publishes a message and returns when it is acknowledged.
	publishOne(topic string, payload []byte) error
	// count returns how many messages were stored in a topic so far.
	count(topic string) (int, error)
}

// streamer has a second way to publish, which the server acknowledges as it likes.
type streamer interface {
	publishStream(topic string, w *work) error
}

// atomicPublisher publishes batches that are stored as a whole or not at all.
type atomicPublisher interface {
	publishAtomic(topic string, w *work, batch int) error
}

// subscriber receives messages as they are published.
type subscriber interface {
	// subscribe calls take with every message that is published after subscribe has returned, one at a
	// time, until the connection is closed. payload is valid until take returns. prompt asks the server
	// to deliver each message at once instead of collecting several.
	subscribe(topic string, prompt bool, take func(payload []byte)) error
}

// fetcher reads stored messages.
type fetcher interface {
	// fetch calls take with every message from the first one on, until take returns false.
	fetch(topic string, take func(payload []byte) bool) error
}

// consumer takes messages from a queue and acknowledges each of them.
type consumer interface {
	// consume calls take with every message until it returns false, and returns when the messages that
	// take got are acknowledged.
	consume(topic string, take func(payload []byte) bool) error
}

// requester sends requests and answers them.
type requester interface {
	// respond makes the connection answer each request with the request's payload, until it is closed.
	respond(subject string) error
	// request sends a request and returns the payload of the answer.
	request(subject string, payload []byte) (answer []byte, err error)
}
