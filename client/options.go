package client

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Options configures a Client. The zero value of each field means its default.
type Options struct {
	// Name is shown in the broker's list of connections. Default: none. At most 255 bytes.
	Name string
	// Token logs in with a token. Default: none.
	Token string
	// User and Password log in with a password; the address may carry them too. Default: none.
	User, Password string
	// NKey is a public user nkey ("U…") to log in with; SignNonce signs the broker's nonce with the private
	// key. Default: none.
	NKey      string
	SignNonce func(nonce []byte) (signature []byte, err error)
	// TLS is the configuration for rafkas:// addresses, and turns TLS on for addresses without a
	// scheme. Default: the system's roots, the address's host name.
	TLS *tls.Config
	// Dialer opens connections. Default: TCP.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// Logger receives connects, disconnects and problems that the client worked around. Default: silent.
	Logger *slog.Logger

	// Level is the durability a publish waits for, unless its message asks for another. Default: the
	// topic's own.
	Level wire.Level
	// Codec compresses the batches of this client. Default: none.
	Codec wire.Codec
	// Linger is how long a batch waits for more messages. Default 0: a batch is sent as soon as no other
	// batch of its partition is in flight, or when it is full.
	Linger time.Duration
	// MaxBatchBytes bounds a batch; a larger message is sent alone. Default 256 KiB, at most 4 MiB.
	MaxBatchBytes int
	// MaxBufferedBytes bounds the messages that wait for an answer; publishing blocks at the limit. Memory
	// of about that size is kept for reuse. Default 8 MiB, enough to keep four partitions busy.
	MaxBufferedBytes int
	// MaxInFlight bounds the batches of one partition in flight. Default 8, which is also the maximum
	// unless NoIdempotence is set.
	MaxInFlight int
	// NoIdempotence sends messages without numbers. By default they are numbered: a message whose answer
	// was lost with the connection is sent again, and the broker stores it once.
	NoIdempotence bool
	// ProducerName lets one client at a time publish under a name: of the clients with the same name only
	// the one that dialled last may publish, others get wire.CodeFenced. Default: none.
	ProducerName string
	// NoAutoCreate keeps a publish from creating a missing topic. Default: the topic is created when
	// the broker allows it.
	NoAutoCreate bool

	// RequestTimeout bounds the login, every request whose context has no deadline, and how long a publish
	// is retried that the broker is too busy for. Default 30 s.
	RequestTimeout time.Duration
	// ReconnectMin and ReconnectMax bound the pause between attempts to reconnect, which doubles and
	// has jitter. Reconnecting goes on until Close. Default 50 ms and 5 s.
	ReconnectMin, ReconnectMax time.Duration
	// PingInterval is how often the connection is probed. One that has not answered by the next
	// probe is closed and dialled again. Default 10 s, or less when the broker asks for it.
	PingInterval time.Duration

	// OnConnect is called after every login. Hooks run on the client's goroutines and must not block.
	OnConnect func(Server)
	// OnDisconnect is called when a connection that was logged in is lost, with the reason.
	OnDisconnect func(error)
	// OnError is called with failures that no call returns.
	OnError func(error)
	// OnStall is called when the broker did not answer a probe, a publish, or two heartbeats of a
	// group's member in time.
	OnStall func(Stall)
}

// Server describes the broker that a client is logged in to.
type Server struct {
	Addr    string
	Name    string
	Version string
}

// Stall describes a request that was not answered in time.
type Stall struct {
	What string        // "ping", "publish" or "heartbeat"
	For  time.Duration // how long it has waited
}

const (
	defaultBatchBytes = 256 << 10
	maxBatchBytes     = 4 << 20 // half a frame: a batch and its framing always fit
	// defaultBufferedBytes is what a publisher fills that is faster than its broker. What waits for long is
	// not in the processor's cache any more when it is written: with 16 MiB 128 B messages went out at 10.7
	// million a second instead of 12.6, and at level disk at 2.3 instead of 3.9.
	defaultBufferedBytes = 8 << 20
	defaultPendingBytes  = 64 << 20
	defaultInFlight      = maxNumberedInFlight // 205 ns a message of 128 B; 5 take 270
	maxNumberedInFlight  = 8                   // what a broker remembers of a producer
)

func (o Options) withDefaults() Options {
	set(&o.MaxBatchBytes, defaultBatchBytes)
	set(&o.MaxBufferedBytes, defaultBufferedBytes)
	set(&o.MaxInFlight, defaultInFlight)
	set(&o.RequestTimeout, 30*time.Second)
	set(&o.ReconnectMin, 50*time.Millisecond)
	set(&o.ReconnectMax, max(5*time.Second, o.ReconnectMin))
	set(&o.PingInterval, 10*time.Second)
	if o.Dialer == nil {
		o.Dialer = dialTCP
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func set[T int | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

func (o *Options) validate() error {
	switch {
	case o.MaxBatchBytes < 0 || o.MaxBatchBytes > maxBatchBytes:
		return errors.New("client: MaxBatchBytes outside 1 B to 4 MiB")
	case o.MaxBufferedBytes < 0, o.MaxInFlight < 0, o.Linger < 0, o.RequestTimeout < 0, o.PingInterval < 0:
		return errors.New("client: negative option")
	case (o.NKey == "") != (o.SignNonce == nil):
		return errors.New("client: NKey and SignNonce go together")
	case o.MaxInFlight > maxNumberedInFlight && !o.NoIdempotence:
		return errors.New("client: MaxInFlight over 8 needs NoIdempotence: the broker remembers 8 batches")
	case o.ReconnectMin < 0 || o.ReconnectMax < o.ReconnectMin:
		return errors.New("client: ReconnectMax below ReconnectMin")
	case !o.Level.Valid() || o.Codec > wire.CodecLZ4:
		return errors.New("client: unknown durability level or codec")
	case o.Token != "" && o.User != "":
		return errors.New("client: both a token and a user")
	case len(o.Name) > 255 || len(o.Token) > 2<<10 || len(o.User)+len(o.Password) > 2<<10-1:
		return errors.New("client: name or credentials too long")
	}
	return nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
