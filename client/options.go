package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/rafka-mq/rafka/internal/loopback"
	"github.com/rafka-mq/rafka/wire"
)

// Options configures a Client. The zero value of each field means its default.
type Options struct {
	// Name is shown in the broker's list of connections. At most 255 bytes. Default: none.
	Name string
	// Token logs in with a token. Default: none.
	Token string
	// User and Password log in with a password. The address may hold them instead. Default: none.
	User, Password string
	// NKey logs in with a public user nkey ("U…"). SignNonce signs the broker's nonce with the
	// private key; both must be set. Default: none.
	NKey      string
	SignNonce func(nonce []byte) (signature []byte, err error)
	// TLS configures TLS for rafkas:// addresses. When it is set, addresses without a scheme use
	// TLS too. Default: the system's root certificates and the address's host name.
	TLS *tls.Config
	// Dialer opens connections. Default: TCP.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// Logger receives connects, disconnects, and failures that no call returns. Default: silent.
	Logger *slog.Logger

	// Level is the durability that a publish waits for, unless its message sets another. Default:
	// the topic's own level, which is also the minimum.
	Level wire.Level
	// Codec compresses the batches that this client publishes. Default: no compression.
	Codec wire.Codec
	// Linger is how long a batch waits for more messages. Default 0: a batch is sent when it is
	// full, or as soon as no other batch of its partition is in flight. With a round trip to the broker
	// of 8 ms or more it waits for at most an eighth of that.
	Linger time.Duration
	// MaxBatchBytes bounds the size of a batch; a larger message is sent in a batch of its own.
	// Default 256 KiB, at most 4 MiB.
	MaxBatchBytes int
	// MaxBufferedBytes bounds the messages that are not answered yet; publishing blocks at the
	// limit. The client keeps about as much memory for reuse. Default 8 MiB, enough for four busy
	// partitions.
	MaxBufferedBytes int
	// MaxInFlight bounds the batches of one partition that are sent and not answered. Default 8,
	// which is also the maximum unless NoIdempotence is set.
	MaxInFlight int
	// NoIdempotence sends messages without numbers. By default they are numbered: a message whose
	// answer was lost with the connection is sent again, and the broker stores it once.
	NoIdempotence bool
	// ProducerName reserves a name for one publishing client at a time. Once the one that was dialled
	// last, by the clocks of the clients, has published to a partition, the others get wire.CodeFenced
	// there; the same goes for what they schedule. Messages at wire.LevelNone are not checked. It
	// excludes NoIdempotence. Default: none.
	ProducerName string
	// NoAutoCreate makes a publish to a missing topic fail. By default the topic is created, if the
	// broker allows it.
	NoAutoCreate bool

	// RequestTimeout bounds three things: the login, every request whose context has no deadline,
	// and how long a publish is retried that the broker refuses because it is busy, or that may have
	// been stored when the connection was lost. A message that was never sent is not bounded: it waits
	// for the next connection, and only Close ends that. Default 30 s.
	RequestTimeout time.Duration
	// ReconnectMin and ReconnectMax bound the pause between attempts to reconnect. The pause
	// doubles with every attempt and is randomized. Attempts end only with Close, or when every
	// broker of the address rejects the login. Default 50 ms and 5 s.
	ReconnectMin, ReconnectMax time.Duration
	// PingInterval is how often the client pings the broker. A connection on which nothing arrived
	// since the previous ping is closed and dialled again, so a broker that vanishes is noticed after
	// one to two intervals. While more than 64 KiB of output are on their way and get fewer, the
	// answer gets more time: the network is slow. Default 10 s, or less when the broker's idle
	// timeout demands it.
	PingInterval time.Duration

	// OnConnect is called after every login. This hook and those below run on the client's
	// goroutines, several of them perhaps at the same time, and must not block.
	OnConnect func(Server)
	// OnDisconnect is called with the reason when a connection is lost after its login.
	OnDisconnect func(error)
	// OnError is called with failures that no call returns.
	OnError func(error)
	// OnStall is called when the broker does not answer in time: a ping, a publish, or two
	// heartbeats of a group's member.
	OnStall func(Stall)
}

// Server describes the broker that a client is logged in to.
type Server struct {
	Addr    string // host:port, as dialled
	Name    string
	Version string
}

// Stall describes a request that was not answered in time.
type Stall struct {
	What string        // "ping", "publish" or "heartbeat"
	For  time.Duration // how long the request has waited so far
}

const (
	defaultBatchBytes = 256 << 10
	maxBatchBytes     = 4 << 20 // half of the largest frame, so a batch with its framing always fits
	// defaultBufferedBytes is as much as a publisher buffers that is faster than its broker. With
	// more, messages leave the processor's cache before they are written: with 16 MiB, messages of
	// 128 B went out at 10.7 million a second instead of 12.6, and at level disk at 2.3 instead of
	// 3.9.
	defaultBufferedBytes = 8 << 20
	defaultPendingBytes  = 64 << 20
	defaultInFlight      = maxNumberedInFlight // a message of 128 B takes 205 ns; with 5 batches it took 270
	maxNumberedInFlight  = 8                   // how many batches a broker remembers of a producer
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
		return fmt.Errorf("client: MaxBatchBytes is %d, it must be 0 to %d (4 MiB)", o.MaxBatchBytes, maxBatchBytes)
	case o.MaxBufferedBytes < 0, o.MaxInFlight < 0, o.Linger < 0, o.RequestTimeout < 0, o.PingInterval < 0:
		return errors.New("client: MaxBufferedBytes, MaxInFlight, Linger, RequestTimeout and PingInterval must not be negative")
	case (o.NKey == "") != (o.SignNonce == nil):
		return errors.New("client: NKey and SignNonce must be set together")
	case o.MaxInFlight > maxNumberedInFlight && !o.NoIdempotence:
		return errors.New("client: MaxInFlight is over 8: set NoIdempotence too, since the broker remembers only 8 batches of a producer")
	case o.ProducerName != "" && o.NoIdempotence:
		return errors.New("client: ProducerName needs numbered messages: do not set NoIdempotence too")
	case o.ReconnectMin < 0 || o.ReconnectMax < o.ReconnectMin:
		return errors.New("client: ReconnectMin must not be negative, nor greater than ReconnectMax")
	case !o.Level.Valid() || o.Codec > wire.CodecLZ4:
		return errors.New("client: unknown durability level or codec")
	case o.Password != "" && o.User == "" && o.Token == "" && o.NKey == "":
		return errors.New("client: a password is set and no user: set User, or write rafka://user:password@host")
	case o.Token != "" && o.User != "":
		return errors.New("client: both a token and a user are set; set one of them")
	case len(o.Name) > 255 || len(o.Token) > 2<<10 || len(o.User)+len(o.Password) > 2<<10-1:
		return errors.New("client: a name has at most 255 bytes, a token 2048, a user and password 2047 together")
	}
	return nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Control: loopback.Control}
	return d.DialContext(ctx, "tcp", addr)
}
