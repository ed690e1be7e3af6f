package config

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// Config is the whole configuration of one broker. Default fills it; the zero value is not usable.
type Config struct {
	Server    Server
	Log       Log
	Broker    Broker
	Storage   Storage
	Retention Retention
	Limits    Limits
	TLS       TLS
	Auth      auth.Config // who may connect and do what
}

// Server says where the broker listens and what it is called.
type Server struct {
	Host   string // used with Port when Listen is empty
	Port   int    // 0 picks a free one
	Listen string // host:port; wins over Host and Port
	Admin  string // host:port of the HTTP listener, or "off"
	Name   string // shown to clients; empty: the host name

	Advertise string        // host:port that text clients are told, when it is not the one to listen on
	Headers   bool          // text clients may send and get headers
	Insecure  bool          // may listen on all addresses without any login
	LameDuck  time.Duration // over how long lame duck mode closes connections
	LameGrace time.Duration // how long it waits before
}

// TLS says how connections are encrypted. Without Cert they are not.
type TLS struct {
	Cert, Key    string // PEM files
	CA           string // PEM file of who signs client certificates; empty: the system's roots
	Verify       bool   // clients need a certificate
	VerifyAndMap bool   // and log in with it: one of its names is the name of a user
	// PinnedCerts are SHA-256 sums of the public keys of the clients that may connect, in hexadecimal
	// digits; empty: of all whose certificates are valid.
	PinnedCerts    []string
	HandshakeFirst string // "false", "true", "auto" or a duration: no greeting before TLS, or only after so long
	AllowNonTLS    bool   // clients may do without
	Timeout        time.Duration
}

// Log configures the broker's log.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Broker holds the settings of topics and of event loops.
type Broker struct {
	ReplicationFactor      int    // kept for cluster mode; a single broker stores one copy
	DefaultTopicPartitions int    // of a topic created without a number
	AutoCreateTopics       bool   // a publish to a missing topic creates it
	Hash                   string // xxhash64, murmur2 or sum; empty: xxhash64, or sum when the partitions are shared
	Loops                  int    // event loops; 0: one less than the cores
	Partition              int    // the one partition this broker owns, when TotalPartitions > 0
	TotalPartitions        int    // brokers sharing the topics, one partition each; 0: off
}

// Storage says where messages are kept and what an acknowledgement promises.
type Storage struct {
	Type         string // file or in_memory
	Dir          string // of the data; used by type file
	Durability   string // least level of a publish: memory, os or disk; empty: disk for files, else memory
	SegmentBytes int64  // size of a segment file; 0: the broker's default
	MemoryBytes  int64  // budget of all messages held in memory; 0: the broker's default
}

// Retention is how long topics keep messages unless a topic says otherwise. Zero means no limit.
type Retention struct {
	Age   time.Duration
	Bytes int64 // per partition
	Count int64 // messages per partition
}

// Limits bounds what clients may use.
type Limits struct {
	Connections      int           // 0: from the limit of open files
	ConnectionRate   int           // a second; 0: no limit
	RecordBytes      int64         // largest message of a topic unless the topic says otherwise
	InFlightBytes    int64         // publishes of one connection that wait for durability
	PendingBytes     int64         // what one connection does not read before it is closed
	IdleTimeout      time.Duration // a silent connection is closed after this
	HandshakeTimeout time.Duration // a connection must finish its hello within this
	AuthTimeout      time.Duration // a connection must log in within this, when it must at all
	ControlLine      int64         // arguments of a text command
	Subscriptions    int           // live subscriptions of one connection; 0: what their memory allows
	Scheduled        int           // messages that wait to be published; 0: the broker's default
	PingInterval     time.Duration // after how much silence a text client is asked whether it is there
	PingMax          int           // how often it may not answer
	SlowTimeout      time.Duration // a connection that reads nothing of what waits for it is closed after this
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

// Level returns the least durability level of a publish.
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

// Validate checks the settings against each other; each one is checked when it is set.
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
	return c.validateSecurity()
}

// Warnings returns a sentence about each setting that is accepted but has less effect than it claims.
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
	return append(w, c.Auth.Warnings()...)
}
