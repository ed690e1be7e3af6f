package config

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// Config is the configuration of one broker. Default returns one to start from; the zero value is
// not usable.
type Config struct {
	Server    Server
	Log       Log
	Broker    Broker
	Storage   Storage
	Retention Retention
	Limits    Limits
	TLS       TLS
	Auth      auth.Config // who may connect, and what they may do
}

// Server says where the broker listens, and its name.
type Server struct {
	Host   string // used with Port when Listen is empty
	Port   int    // 0 means any free port
	Listen string // host:port; overrides Host and Port
	Admin  string // host:port of the HTTP listener, or "off"
	Name   string // shown to clients; default: the host name

	Advertise string        // host:port that text clients are told to connect to, if not the one listened on
	Headers   bool          // text clients may send and receive headers
	Insecure  bool          // allow listening beyond the loopback address without any login
	LameDuck  time.Duration // how long lame duck mode takes to close all connections
	LameGrace time.Duration // how long it waits before it begins to close them
}

// TLS configures encryption. Without Cert, connections are not encrypted.
type TLS struct {
	Cert, Key    string // PEM files
	CA           string // PEM file of the authorities for client certificates; default: the system's roots
	Verify       bool   // clients need a certificate
	VerifyAndMap bool   // clients need a certificate and log in with it: one of its names is a user's name
	// PinnedCerts are the SHA-256 sums of the public keys of the clients that may connect, in
	// hexadecimal. Default: every client with a valid certificate.
	PinnedCerts    []string
	HandshakeFirst string        // no greeting before TLS: "false", "true", "auto", or a duration after which it is sent
	AllowNonTLS    bool          // clients may connect without TLS
	Timeout        time.Duration // bounds the handshake
}

// Log configures the broker's log.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Broker holds the defaults of topics, and the event loops.
type Broker struct {
	ReplicationFactor      int    // reserved for cluster mode; a single broker stores one copy
	DefaultTopicPartitions int    // of a topic created without a number
	AutoCreateTopics       bool   // a publish to a missing topic creates it
	Hash                   string // xxhash64, murmur2 or sum; default: sum with TotalPartitions, else xxhash64
	Loops                  int    // event loops; 0 means one less than the cores
	Partition              int    // the partition that this broker owns, with TotalPartitions
	TotalPartitions        int    // brokers that share the topics, each with one partition; 0 means none do
}

// Storage says where messages are stored, and what an acknowledgement promises.
type Storage struct {
	Type         string // file or in_memory
	Dir          string // data directory, for type file
	Durability   string // minimum level of a publish: memory, os or disk; default: disk for type file, else memory
	SegmentBytes int64  // size of a segment file; 0 means the broker's default
	MemoryBytes  int64  // budget for messages held in memory; 0 means the broker's default
}

// Retention is how long topics keep messages, unless a topic sets its own. Zero means no limit.
type Retention struct {
	Age   time.Duration
	Bytes int64 // per partition
	Count int64 // messages per partition
}

// Limits bounds what clients may use.
type Limits struct {
	Connections      int           // open connections; 0 means as many as the limit of open files allows
	ConnectionRate   int           // new connections per second; 0 means no limit
	RecordBytes      int64         // largest message, unless a topic sets its own limit
	InFlightBytes    int64         // publishes of one connection that wait for durability
	PendingBytes     int64         // output that a connection may leave unread; beyond it, it is closed
	UnreadBytes      int64         // output that all connections may leave unread; beyond it, those that read nothing are closed; 0 means the broker chooses
	IdleTimeout      time.Duration // a silent connection is closed after this
	HandshakeTimeout time.Duration // a connection must finish its hello within this
	AuthTimeout      time.Duration // a connection must log in within this, if logins are required
	ControlLine      int64         // arguments of a text command
	Subscriptions    int           // live subscriptions of one connection; 0 means as many as their memory allows
	Scheduled        int           // scheduled messages that wait; 0 means the broker's default
	PingInterval     time.Duration // a text client that is silent this long gets a ping
	PingMax          int           // pings that a text client may leave unanswered
	SlowTimeout      time.Duration // a connection that does not read its output is closed after this
}

// The names of Storage.Type.
const (
	StorageFile   = "file"
	StorageMemory = "in_memory"
)

// Default returns the default configuration: the broker stores in ./data, flushes before it acknowledges,
// and listens on the loopback address only.
func Default() Config {
	return Config{
		Server:    Server{Host: "127.0.0.1", Port: 4222, Admin: "127.0.0.1:8222", Headers: true, LameDuck: 2 * time.Minute, LameGrace: 10 * time.Second},
		Log:       Log{Level: "info", Format: "text"},
		Broker:    Broker{ReplicationFactor: 1, DefaultTopicPartitions: 1, AutoCreateTopics: true},
		Storage:   Storage{Type: StorageFile, Dir: "data"},
		Retention: Retention{Age: 7 * 24 * time.Hour},
		Limits: Limits{
			RecordBytes: wire.DefaultMaxRecordBytes, InFlightBytes: 64 << 20, PendingBytes: 64 << 20,
			IdleTimeout: 5 * time.Minute, HandshakeTimeout: 10 * time.Second, SlowTimeout: 10 * time.Second,
			AuthTimeout: 2 * time.Second, ControlLine: 4 << 10, PingInterval: 2 * time.Minute, PingMax: 2,
		},
		TLS: TLS{HandshakeFirst: "false", Timeout: 2 * time.Second},
	}
}

// ListenAddr returns the host:port the broker listens on.
func (c *Config) ListenAddr() string {
	if c.Server.Listen != "" {
		return c.Server.Listen
	}
	return net.JoinHostPort(c.Server.Host, strconv.Itoa(c.Server.Port))
}

// Level returns the minimum durability of a publish.
func (c *Config) Level() wire.Level {
	if c.Storage.Durability == "" {
		if c.Storage.Type == StorageMemory {
			return wire.LevelMemory
		}
		return wire.LevelDisk
	}
	l, _ := wire.ParseLevel(c.Storage.Durability) // Validate has checked the name
	return l
}

// KeyHash returns the name of the hash that places keys on the partitions of new topics.
func (c *Config) KeyHash() string {
	if c.Broker.Hash != "" {
		return c.Broker.Hash
	}
	if c.Broker.TotalPartitions > 0 {
		return "sum"
	}
	return "xxhash64"
}

// Validate checks the settings against each other. Each value by itself was checked when it was
// set.
func (c *Config) Validate() error {
	if c.Broker.TotalPartitions > 0 && c.Broker.Partition >= c.Broker.TotalPartitions {
		return fmt.Errorf("broker.partition is %d, but with broker.total_partitions %d the partitions are 0 to %d",
			c.Broker.Partition, c.Broker.TotalPartitions, c.Broker.TotalPartitions-1)
	}
	if c.Broker.TotalPartitions == 0 && c.Broker.Partition > 0 {
		return fmt.Errorf("broker.partition is %d, but broker.total_partitions is not set: say how many there are",
			c.Broker.Partition)
	}
	if c.Storage.Type == StorageMemory && c.Level() > wire.LevelMemory {
		return fmt.Errorf("storage.durability %q needs files, but storage.type is %q: use type %q or durability \"memory\"",
			c.Storage.Durability, c.Storage.Type, StorageFile)
	}
	if c.Storage.Type == StorageFile && c.Storage.Dir == "" {
		return fmt.Errorf("storage.type is %q, but storage.dir is empty: name a directory or use type %q",
			c.Storage.Type, StorageMemory)
	}
	if c.Storage.MemoryBytes > 0 && c.Storage.MemoryBytes < minMemoryBytes {
		return fmt.Errorf("storage.memory_bytes is %d, but the least is 1MiB; 0 is the default", c.Storage.MemoryBytes)
	}
	return c.validateSecurity()
}

// minMemoryBytes is the least memory for messages that a broker starts with.
const minMemoryBytes = 1 << 20

// Warnings returns a sentence about each setting that is accepted but does less, or lets others do more, than it seems to.
func (c *Config) Warnings() []string {
	var w []string
	if c.Broker.ReplicationFactor > 1 {
		w = append(w, fmt.Sprintf("broker.replication_factor is %d, but replication needs cluster mode: "+
			"this broker stores one copy of every message", c.Broker.ReplicationFactor))
	}
	if c.Broker.TotalPartitions > 0 && c.Broker.DefaultTopicPartitions > 1 &&
		c.Broker.DefaultTopicPartitions != c.Broker.TotalPartitions {
		w = append(w, fmt.Sprintf("broker.default_topic_partitions is %d, but broker.total_partitions is %d: "+
			"new topics get %d", c.Broker.DefaultTopicPartitions, c.Broker.TotalPartitions, c.Broker.TotalPartitions))
	}
	if a := c.Server.Admin; a != "off" && a != "" && !c.Server.Insecure && !isLoopback(a) {
		w = append(w, fmt.Sprintf("server.admin is %s and has no login: everybody who reaches it can read metrics, "+
			"the names of topics and clients, and profiles", a))
	}
	return append(w, c.Auth.Warnings()...)
}
