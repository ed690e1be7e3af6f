package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// DefaultListen is the address a broker listens on by default.
const DefaultListen = "127.0.0.1:4222"

// Options configures a Server. New copies them. The zero value of a field means its default.
type Options struct {
	// Listen is the address for clients, host:port; port 0 picks a free one. Default DefaultListen.
	// "off" opens no socket: connections come from Dial only.
	Listen string
	// Admin is the address of the admin HTTP server. Default: none ("" or "off").
	Admin string
	// Dir is the data directory, created when missing. Empty keeps everything in memory.
	Dir string
	// Topics are the default settings of topics, such as "durability" = "os".
	Topics []wire.Setting
	// NoAutoCreate refuses to create topics that are published or subscribed to before they exist.
	NoAutoCreate bool
	// Partitions is the number of partitions of a topic that is created without one. Default 1.
	Partitions int
	// OwnPartition and TotalPartitions make this broker own one partition of every topic. Default
	// 0 and 0: it owns all of them.
	OwnPartition, TotalPartitions int
	// MemoryBytes bounds the memory for stored records. Default: a quarter of the machine's, at most
	// 1 GiB.
	MemoryBytes int64
	// Loops is the number of event loops. Default: the number of CPUs less one, from 1 to 16.
	Loops int
	// MaxConnections bounds open connections. Default: what the limit of open files leaves, at most
	// 65,536.
	MaxConnections int
	// MaxConnectionRate bounds the new connections per second; after a quiet second as many may come at
	// once. Connections over the limit are told so and closed. Default 0: no limit.
	MaxConnectionRate int
	// MaxInFlightBytes bounds a connection's publishes that wait for durability. One alone may be larger. Default
	// 64 MiB.
	MaxInFlightBytes int
	// MaxPendingBytes bounds the output that a client has not read; over it the connection is closed.
	// A client of the binary protocol may always leave one reply unread, up to 9.25 MiB. Default 64 MiB.
	MaxPendingBytes int
	// MaxUnreadBytes bounds the output that all clients together have not read. Over it, those that have read
	// nothing for a second are closed. It also bounds the memory of requests that have not arrived whole: over
	// it, clients whose request takes longer than a second are closed. Default: a quarter of the memory of the
	// machine or container, at most 1 GiB, but no less than MaxPendingBytes.
	MaxUnreadBytes int
	// MaxScheduled bounds the scheduled messages that wait, of all topics together: each takes 24 bytes of
	// memory. Default 10,000,000.
	MaxScheduled int
	// MaxSubscriptions bounds the live subscriptions of one connection. Default: only their memory is
	// bounded, with room for about a million.
	MaxSubscriptions int
	// MaxControlLine bounds the arguments of a text command. Default 4096 bytes, at most 1 MiB.
	MaxControlLine int
	// NoHeaders refuses messages with headers from text clients and delivers none to them.
	NoHeaders bool
	// Advertise is the host:port that text clients are told to connect to, for a broker behind an
	// address that is not its own. Default: the address it listens on.
	Advertise string
	// PingInterval is how long a text client may be silent before it is sent a PING. Default 2 min.
	PingInterval time.Duration
	// PingMax is how many PINGs may go unanswered before the connection is closed. Default 2.
	PingMax int
	// IdleTimeout closes a connection of the binary protocol, or one without a protocol, that has sent
	// nothing for that long. Default 5 min.
	IdleTimeout time.Duration
	// HandshakeTimeout closes a connection that began a preface or a frame and did not finish it.
	// Default 10 s.
	HandshakeTimeout time.Duration
	// SlowTimeout closes a connection that has unread output and reads none of it for that long. Default 10
	// s.
	SlowTimeout time.Duration
	// Name is the broker's name in greetings. Default "rafka".
	Name string
	// Version is the program's version in greetings. Default "dev".
	Version string
	// Auth is who may connect and do what. Default: everybody may do everything.
	Auth *auth.Policy
	// AuthTimeout closes a connection that has not logged in within that time, or, where no login is needed
	// because of a NoAuthUser, has not sent anything. Default 2 s.
	AuthTimeout time.Duration
	// TLS encrypts connections. Default: they are not encrypted.
	TLS TLSOptions
	// RefusalDelay delays the answer to wrong credentials by one to two times its value, so that guessing
	// takes time. A client whose timeout is shorter does not learn that it was refused, and goes on trying.
	// Default 50 ms; negative for none.
	RefusalDelay time.Duration
	// FS is the file system under the log; nil is the operating system's.
	FS log.FS
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Logger receives lifecycle events and failures; nil is silent.
	Logger *slog.Logger
}

// TLSOptions say how connections are encrypted. The zero value means no encryption.
type TLSOptions struct {
	// Config holds the certificate and says which clients need one; nil is no TLS.
	Config *tls.Config
	// Mixed lets clients choose whether to use TLS. Default: clients without TLS are refused.
	Mixed bool
	// First waits for a client to begin TLS instead of greeting it in plain text. A client that has not
	// begun after Fallback is greeted all the same, unless Fallback is 0.
	First    bool
	Fallback time.Duration
	// MapUsers lets clients log in with their certificate: one of its names is the name of a user.
	MapUsers bool
	// Timeout bounds a handshake. Default 2 s.
	Timeout time.Duration
}

// off is the address that opens no socket.
const off = "off"

// Limits that are not options: nobody needs to change them.
const (
	// readBuffer is what one loop reads at once. Publishing reaches 2.3 GB/s with 256 KiB, 3.2 with
	// 512 KiB and 3.5 with 1 MiB; but for as long as what was read takes, nobody else is served. With 64
	// KiB publishes of 16 B lose a quarter, and live subjects gain nothing.
	readBuffer = 512 << 10
	// softPending is the unread output at which pushes and fetch replies pause.
	softPending = 256 << 10
	// deliverBytes is the size of one pushed frame's entries.
	deliverBytes = 256 << 10
	// maxWaits bounds one session's long polls and waiting leases.
	maxWaits = 4096
	// maxPolled bounds the partitions on which they wait, each counted for each: a lease waits on up to 1024.
	maxPolled = 65536
	// maxSubscriptions bounds one session's push subscriptions.
	maxSubscriptions = 65536
	// maxHandles bounds the topics one session resolves; a handle has 16 bits.
	maxHandles = 65535
	// maxBlocked bounds one session's requests that wait for it to read earlier replies, or for workers.
	maxBlocked = 4096
	// coldReaders is the number of goroutines that read the disk or wait for metadata.
	coldReaders = 8
	// coldQueue bounds the work that waits for them.
	coldQueue = 4096
	// retryInterval is how often a loop looks again at connections whose output is stuck: gnet does
	// not say when it drained.
	retryInterval = 5 * time.Millisecond
	// fdReserve is the number of files kept back from connections: segments, commit log, admin.
	fdReserve = 512
	// maxSlices is how many slices one write takes: gnet closes connections at 1024, and more than 64
	// gain nothing (measured).
	maxSlices = 64
	// idleBuffer is the largest output buffer that goes back to the pool.
	idleBuffer = 1 << 20
)

func (o *Options) setDefaults() {
	o.Listen = cmp.Or(o.Listen, DefaultListen)
	o.Admin = cmp.Or(o.Admin, off)
	o.Loops = cmp.Or(o.Loops, min(16, max(1, runtime.GOMAXPROCS(0)-1)))
	o.MaxInFlightBytes = cmp.Or(o.MaxInFlightBytes, 64<<20)
	o.MaxPendingBytes = cmp.Or(o.MaxPendingBytes, 64<<20)
	o.MaxUnreadBytes = cmp.Or(o.MaxUnreadBytes, max(o.MaxPendingBytes, int(log.DefaultMemoryBytes())))
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 5*time.Minute)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 10*time.Second)
	o.SlowTimeout = cmp.Or(o.SlowTimeout, 10*time.Second)
	o.RefusalDelay = cmp.Or(o.RefusalDelay, 50*time.Millisecond)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, math.MaxInt)
	o.MaxControlLine = cmp.Or(o.MaxControlLine, 4096)
	o.PingInterval = cmp.Or(o.PingInterval, 2*time.Minute)
	o.PingMax = cmp.Or(o.PingMax, 2)
	o.AuthTimeout = cmp.Or(o.AuthTimeout, 2*time.Second)
	o.Name = cmp.Or(o.Name, "rafka")
	o.Version = cmp.Or(o.Version, "dev")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	switch {
	case o.Loops < 1 || o.Loops > 256:
		return fmt.Errorf("server: %d event loops, 1 to 256 are possible", o.Loops)
	case o.MaxConnections < 0 || o.MaxConnectionRate < 0 || o.MaxInFlightBytes < 0 || o.MaxPendingBytes < 0 || o.MaxUnreadBytes < 0 ||
		o.MaxSubscriptions < 0 || o.MaxScheduled < 0 || o.MaxControlLine < 0:
		return errors.New("server: negative limit")
	case o.MaxControlLine > 1<<20:
		return errors.New("server: MaxControlLine is over 1 MiB")
	case o.IdleTimeout < 0 || o.PingInterval < 0 || o.PingMax < 0 || o.AuthTimeout < 0 || o.HandshakeTimeout < 0 || o.SlowTimeout < 0:
		return errors.New("server: negative timeout")
	case o.TLS.Timeout < 0 || o.TLS.Fallback < 0:
		return errors.New("server: negative TLS timeout")
	case o.TLS.MapUsers && o.TLS.Config != nil && o.TLS.Config.ClientAuth < tls.VerifyClientCertIfGiven:
		return errors.New("server: users can only be mapped from certificates that are verified")
	case o.Advertise != "" && !isHostPort(o.Advertise):
		return fmt.Errorf("server: %q to advertise is not host:port", o.Advertise)
	case len(o.Name) > 255 || len(o.Version) > 255:
		return errors.New("server: name or version over 255 bytes")
	}
	return nil
}

func isHostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
