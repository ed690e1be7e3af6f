package server

// Action is what a request needs the right to do.
type Action uint8

// The actions of the operation table.
const (
	// ActionNone needs no right beyond being logged in.
	ActionNone Action = iota
	// ActionDescribe reads what exists: topics, groups, statistics.
	ActionDescribe
	// ActionPublish appends to a topic.
	ActionPublish
	// ActionConsume reads a topic and moves the positions of its groups and queues.
	ActionConsume
	// ActionAdmin creates, changes, purges and deletes topics and groups.
	ActionAdmin
)

// Credentials is what a connection says about itself before it is trusted.
type Credentials struct {
	Mechanism string // "" for none, "token", "plain"
	Secret    []byte // as the mechanism defines it; a view
	Remote    string // address of the peer
}

// Authorizer decides who may do what. Its methods are called on event loops and
// workers, several at a time, and must not block.
type Authorizer interface {
	// Login returns the user for credentials, or an error that ends the connection.
	Login(c Credentials) (user string, err error)
	// Allowed reports whether user may do action on the topic, "" for the broker as a whole.
	Allowed(user string, action Action, topic string) bool
}

// Everybody is the Authorizer that lets everybody do everything.
type Everybody struct{}

// Login accepts all credentials.
func (Everybody) Login(Credentials) (string, error) { return "", nil }

// Allowed returns true.
func (Everybody) Allowed(string, Action, string) bool { return true }
