package main

// conn is a connection to a server through a client of the system's own. What else it can do is said by
// the interfaces below; a system that lacks one has no figure there.
type conn interface {
	// create makes sure that topics are there; new ones are empty.
	create(keep keeping, topics ...string) error
	close() error
}

// keeping says what a topic in memory keeps, where that makes a system faster. Files keep everything.
type keeping bool

const (
	keepAll    keeping = false
	keepRecent keeping = true // recentBytes
)

// recentBytes is what a topic in memory keeps when nothing more is needed: it has to be bounded by
// something, and memory that is used again costs less than memory that the machine has to find.
const recentBytes = 128 << 20

// sender publishes to whoever listens, without acknowledgements.
type sender interface {
	// send returns when the server has taken all of the work.
	send(topic string, w *work) error
}

// publisher publishes to topics that are stored.
type publisher interface {
	// publish spreads the work over the topics in turn and returns when all of it is acknowledged. At
	// most window messages are unanswered; 0 leaves that to what is fastest for the client.
	publish(topics []string, w *work, window int) error
	// publishOne returns when the message is acknowledged.
	publishOne(topic string, payload []byte) error
	// count returns how many messages a topic took.
	count(topic string) (int, error)
}

// streamer publishes to topics in a way of its own that is acknowledged in the background.
type streamer interface {
	publishStream(topic string, w *work) error
}

// atomicPublisher publishes batches of which all or nothing is stored.
type atomicPublisher interface {
	publishAtomic(topic string, w *work, batch int) error
}

// subscriber receives what is published.
type subscriber interface {
	// subscribe calls take, one message at a time, with what is published after it has returned, until
	// the connection is closed. Prompt asks for each message at once, rather than for many together.
	subscribe(topic string, prompt bool, take func(payload []byte)) error
}

// fetcher reads what is stored.
type fetcher interface {
	// fetch calls take for every message from the first one on, until take says no.
	fetch(topic string, take func(payload []byte) bool) error
}

// consumer takes messages from a queue, each of which it acknowledges.
type consumer interface {
	// consume calls take for every message until it says no, and returns when all are acknowledged.
	consume(topic string, take func(payload []byte) bool) error
}

// requester sends requests and answers them.
type requester interface {
	// respond has the connection answer requests with what they bring.
	respond(subject string) error
	request(subject string, payload []byte) (answer []byte, err error)
}
