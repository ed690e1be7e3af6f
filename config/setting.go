package config

import "github.com/rafka-mq/rafka/wire"

// Setting is one value of a Config, with its names.
type Setting struct {
	Key   string // in the file, sections joined by a dot: "storage.dir"
	Flag  string // on the command line; RAFKA_ and the flag in upper case is the environment variable
	Usage string // one line of help
	Value Value
}

// Value parses and prints one value. It has the methods that flag libraries ask for.
type Value interface {
	Set(text string) error
	String() string
	Type() string
}

// maxCount bounds counts that have no other limit than the machine, to detect mistyped numbers.
const maxCount = 1 << 30

// maxSize bounds sizes in bytes, for the same reason.
const maxSize = 1 << 60

// Settings returns all settings, bound to c, in the order of the documented file.
func (c *Config) Settings() []Setting {
	s := c.serverSettings()
	s = append(s, c.brokerSettings()...)
	s = append(s, c.storageSettings()...)
	s = append(s, c.limitSettings()...)
	return append(s, c.tlsSettings()...)
}

func (c *Config) serverSettings() []Setting {
	return []Setting{
		{"server.host", "host", "address to listen on", host{c}},
		{"server.port", "port", "port to listen on, 0 for a free one", port{c}},
		{"server.listen", "listen", "host:port to listen on, instead of host and port", hostPort{&c.Server.Listen, ""}},
		{"server.admin", "admin", "host:port of the HTTP listener for metrics and health, or off", hostPort{&c.Server.Admin, "off"}},
		{"server.name", "name", "name shown to clients", text{&c.Server.Name}},
		{"server.client_advertise", "client-advertise", "host:port that text clients are told to connect to", hostPort{&c.Server.Advertise, ""}},
		{"server.headers", "headers", "let text clients send and receive headers", boolean{&c.Server.Headers}},
		{"server.insecure", "insecure", "allow listening beyond this machine without any login", boolean{&c.Server.Insecure}},
		{"server.lame_duck_duration", "lame-duck-duration", "how long lame duck mode takes to close all connections", timeout{&c.Server.LameDuck}},
		{"server.lame_duck_grace_period", "lame-duck-grace-period", "how long lame duck mode waits before it closes connections", timeout{&c.Server.LameGrace}},
		{"log.level", "log-level", "debug, info, warn or error", choice(&c.Log.Level, "debug", "info", "warn", "error")},
		{"log.format", "log-format", "text or json", choice(&c.Log.Format, "text", "json")},
	}
}

func (c *Config) brokerSettings() []Setting {
	b := &c.Broker
	return []Setting{
		{"broker.replication_factor", "replication-factor", "copies of each message; more than 1 needs cluster mode", integer{&b.ReplicationFactor, 1, 64}},
		{"broker.default_topic_partitions", "default-topic-partitions", "partitions of a topic created without a number", integer{&b.DefaultTopicPartitions, 1, wire.MaxPartitions}},
		{"broker.auto_create_topics", "auto-create-topics", "create a missing topic on the first publish", boolean{&b.AutoCreateTopics}},
		{"broker.hash", "hash", "how keys choose partitions of new topics: xxhash64 (the default), murmur2 or sum", choice(&b.Hash, "", "xxhash64", "murmur2", "sum")},
		{"broker.loops", "loops", "event loops, 0 for one less than the cores", integer{&b.Loops, 0, 256}},
		{"broker.partition", "partition", "the partition this broker owns, with total-partitions; a pod name like rafka-2 works too", ordinal{&b.Partition}},
		{"broker.total_partitions", "total-partitions", "brokers that share the topics, one partition each; 0 for off", integer{&b.TotalPartitions, 0, wire.MaxPartitions}},
	}
}

func (c *Config) storageSettings() []Setting {
	kind := choice(&c.Storage.Type, StorageFile, StorageMemory)
	kind.alias = map[string]string{"memory": StorageMemory}
	return []Setting{
		{"storage.type", "storage", "file, or in_memory to keep nothing across a restart", kind},
		{"storage.dir", "data", "directory of the data", text{&c.Storage.Dir}},
		{"storage.durability", "durability", "minimum that an acknowledgement promises: memory, os or disk; the default is disk with files, and memory without", choice(&c.Storage.Durability, "", "memory", "os", "disk")},
		{"storage.segment_bytes", "segment-bytes", "size of a segment file, such as 64MiB; 0 for the broker's choice", size{&c.Storage.SegmentBytes, 0, 1 << 30}},
		{"storage.memory_bytes", "memory-bytes", "budget of messages held in memory, such as 1GiB; 0 for a quarter of the machine's or container's, at most 1 GiB", size{&c.Storage.MemoryBytes, 0, maxSize}},
	}
}

func (c *Config) limitSettings() []Setting {
	return []Setting{
		{"retention.age", "retention-age", "how long messages are kept, such as 7d; 0 for ever", duration{&c.Retention.Age}},
		{"retention.bytes", "retention-bytes", "bytes kept per partition, such as 10GiB; 0 for no limit", size{&c.Retention.Bytes, 0, maxSize}},
		{"retention.count", "retention-count", "messages kept per partition; 0 for no limit", count{&c.Retention.Count}},
		{"limits.connections", "max-connections", "open connections; 0 for what the limit of open files allows", integer{&c.Limits.Connections, 0, maxCount}},
		{"limits.connection_rate", "max-connection-rate", "new connections in a second; 0 for no limit", integer{&c.Limits.ConnectionRate, 0, maxCount}},
		{"limits.record_bytes", "max-record-bytes", "largest message, such as 1MiB", size{&c.Limits.RecordBytes, 1, wire.MaxFrameBytes - 1<<10}},
		{"limits.in_flight_bytes", "max-in-flight-bytes", "publishes of one connection that wait for durability", size{&c.Limits.InFlightBytes, 1 << 10, maxCount}},
		{"limits.pending_bytes", "max-pending-bytes", "output that a connection may leave unread; beyond it, it is closed", size{&c.Limits.PendingBytes, 1 << 10, maxCount}},
		{"limits.unread_bytes", "max-unread-bytes", "output that all connections may leave unread; beyond it, those that read nothing are closed; 0 for the broker's choice", size{&c.Limits.UnreadBytes, 0, maxSize}},
		{"limits.idle_timeout", "idle-timeout", "a silent connection is closed after this", period{&c.Limits.IdleTimeout}},
		{"limits.handshake_timeout", "handshake-timeout", "a new connection must finish its hello within this", period{&c.Limits.HandshakeTimeout}},
		{"limits.auth_timeout", "auth-timeout", "a connection must log in within this, if logins are required", timeout{&c.Limits.AuthTimeout}},
		{"limits.control_line", "max-control-line", "longest arguments of a text command", size{&c.Limits.ControlLine, 8, 1 << 20}},
		{"limits.subscriptions", "max-subscriptions", "live subscriptions of one connection; 0 for what their memory allows", integer{&c.Limits.Subscriptions, 0, maxCount}},
		{"limits.scheduled", "max-scheduled", "scheduled messages of all topics that wait; 0 for 10,000,000", integer{&c.Limits.Scheduled, 0, maxCount}},
		{"limits.ping_interval", "ping-interval", "a text client that is silent this long gets a ping", timeout{&c.Limits.PingInterval}},
		{"limits.ping_max", "ping-max", "pings that a text client may leave unanswered before it is closed", integer{&c.Limits.PingMax, 1, 1000}},
		{"limits.slow_timeout", "slow-timeout", "a connection that does not read its output is closed after this", period{&c.Limits.SlowTimeout}},
	}
}

func (c *Config) tlsSettings() []Setting {
	t := &c.TLS
	return []Setting{
		{"tls.cert", "tls-cert", "PEM file of the broker's certificate; turns TLS on", text{&t.Cert}},
		{"tls.key", "tls-key", "PEM file of the private key of tls-cert", text{&t.Key}},
		{"tls.ca", "tls-ca", "PEM file of the authorities for client certificates", text{&t.CA}},
		{"tls.verify", "tls-verify", "clients need a certificate", boolean{&t.Verify}},
		{"tls.verify_and_map", "tls-verify-and-map", "clients need a certificate, and log in with it", boolean{&t.VerifyAndMap}},
		{"tls.handshake_first", "tls-handshake-first", "no greeting before TLS: true, false, auto, or a duration after which it is sent", first{&t.HandshakeFirst}},
		{"tls.allow_non_tls", "tls-allow-non-tls", "clients may connect without TLS", boolean{&t.AllowNonTLS}},
		{"tls.timeout", "tls-timeout", "a TLS handshake must end within this", timeout{&t.Timeout}},
	}
}

// aliases are other names that the file may use for settings: those of NATS.
var aliases = map[string]string{
	"server_name":            "server.name",
	"host":                   "server.host",
	"net":                    "server.host",
	"port":                   "server.port",
	"listen":                 "server.listen",
	"client_advertise":       "server.client_advertise",
	"headers":                "server.headers",
	"lame_duck":              "server.lame_duck_duration",
	"lame_duck.duration":     "server.lame_duck_duration",
	"lame_duck.grace_period": "server.lame_duck_grace_period",
	"lame_duck_duration":     "server.lame_duck_duration",
	"lame_duck_grace_period": "server.lame_duck_grace_period",
	"max_payload":            "limits.record_bytes",
	"max_control_line":       "limits.control_line",
	"max_connections":        "limits.connections",
	"max_conn":               "limits.connections",
	"max_connection_rate":    "limits.connection_rate",
	"max_subscriptions":      "limits.subscriptions",
	"max_subs":               "limits.subscriptions",
	"max_pending":            "limits.pending_bytes",
	"write_deadline":         "limits.slow_timeout",
	"ping_interval":          "limits.ping_interval",
	"ping_max":               "limits.ping_max",
	"auth_timeout":           "limits.auth_timeout",
	"authorization.timeout":  "limits.auth_timeout",
	"allow_non_tls":          "tls.allow_non_tls",
	"tls.cert_file":          "tls.cert",
	"tls.key_file":           "tls.key",
	"tls.ca_file":            "tls.ca",

	"tls.connection_rate_limit": "limits.connection_rate",
}

// foreign are keys of nats-server that Rafka does not take, with what to write instead.
var foreign = map[string]string{
	"accounts":          "all users share one namespace: write users with permissions",
	"cluster":           "a broker runs on one node",
	"debug":             "write log.level: debug",
	"gateway":           "a broker runs on one node",
	"http":              "write server.admin: host:port",
	"http_port":         "write server.admin: 127.0.0.1:8222",
	"https":             "server.admin has no TLS: keep it on the loopback address or behind a proxy",
	"https_port":        "server.admin has no TLS: keep it on the loopback address or behind a proxy",
	"jetstream":         "topics need no setting: write storage.dir for their directory",
	"leafnodes":         "a broker runs on one node",
	"log_file":          "the log goes to stderr",
	"logfile":           "the log goes to stderr",
	"max_file_store":    "write retention.bytes, which counts for each partition",
	"max_memory_store":  "write storage.memory_bytes",
	"monitor_port":      "write server.admin: 127.0.0.1:8222",
	"mqtt":              "there is no MQTT",
	"no_header_support": "write server.headers: false",
	"operator":          "there are no JWT logins: write users",
	"pid_file":          "there is none; --port-file writes a file when the broker serves",
	"pidfile":           "there is none; --port-file writes a file when the broker serves",
	"prof_port":         "server.admin serves /debug/pprof/",
	"resolver":          "there are no JWT logins: write users",
	"routes":            "a broker runs on one node",
	"store_dir":         "write storage.dir",
	"storedir":          "write storage.dir",
	"system_account":    "there are no accounts: write users",
	"trace":             "write log.level: debug",
	"websocket":         "there is no WebSocket",
	"write_timeout":     "write limits.slow_timeout, after which such a client is closed",
}

// RetentionSeconds returns a Value that sets Retention.Age as a number of seconds.
func (c *Config) RetentionSeconds() Value { return seconds{&c.Retention.Age} }
