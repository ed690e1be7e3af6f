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

// Options configures a Client. The user sets them; the zero value of each field means its default.
type Options struct {
	// Name is shown in the broker's list of connections. Default: none. At most 255 bytes.
	Name string
	// Token logs in with a token. Default: none.
	Token string
	// User and Password log in with a password; the address may carry them too. Default: none.
	User, Password string
	// NKey is a public user nkey ("U…") to log in with; SignNonce signs what the broker asks to be
	// signed, with the key's private half. Default: none.
	NKey      string
	SignNonce func(nonce []byte) (signature []byte, err error)
	// TLS is the configuration for rafkas:// addresses, and turns TLS on for addresses without a
	// scheme. Default: the system's roots, the address's host name.
	TLS *tls.Config
	// Dialer opens connections. Default: TCP.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// Logger receives connects, disconnects and what the client had to work around. Default: silent.
	Logger *slog.Logger

	// Level is the durability a publish waits for, unless its message asks for another. Default: the
	// topic's own.
	Level wire.Level
	// Codec compresses the batches of this client. Default: none.
	Codec wire.Codec
	// Linger is how long a batch waits for more messages. Default 0: natural batching, where a batch
	// leaves as soon as nothing of its partition is on the way, or when it is full.
	Linger time.Duration
	// MaxBatchBytes closes a batch; a larger message travels alone. Default 256 KiB, at most 4 MiB.
	MaxBatchBytes int
	// MaxBufferedBytes bounds the messages that wait for an answer; publishing blocks at the limit.
	// About as much memory as was needed is kept for reuse. Default 8 MiB, which four partitions
	// keep busy.
	MaxBufferedBytes int
	// MaxInFlight bounds the batches of one partition that are on the way at once. Default 8, which is
	// also the most unless NoIdempotence is set.
	MaxInFlight int
	// NoIdempotence leaves messages without numbers. By default they have them: a message whose answer
	// was lost with the connection is sent again, and the broker stores it once.
	NoIdempotence bool
	// ProducerName lets one client at a time publish under a name: of those with the same name only the
	// one that was dialled last is heard, others get wire.CodeFenced. Default: every client for itself.
	ProducerName string
	// NoAutoCreate keeps a publish from creating a missing topic. Default: the topic is created when
	// the broker allows it.
	NoAutoCreate bool

	// RequestTimeout bounds the login, every request whose context has no deadline, and how long a
	// publish that the broker is too busy for is tried again. Default 30 s.
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
	// OnError is called with failures that no caller is there to receive.
	OnError func(error)
	// OnStall is called when the broker did not answer a probe, a publish, or two heartbeats of a
	// group's member in time.
	OnStall func(Stall)
}

// Server is who answered a login.
type Server struct {
	Addr    string
	Name    string
	Version string
}

// Stall is something that should have been answered by now.
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
