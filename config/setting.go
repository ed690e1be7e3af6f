package config

import "github.com/rafka-mq/rafka/wire"

// Setting is one value of a Config, by name.
type Setting struct {
	Key   string // in the file, sections joined by a dot: "storage.dir"
	Flag  string // on the command line; upper case behind RAFKA_ it is the environment variable
	Usage string // one line for a person
	Value Value
}

// Value reads and writes one value as text. It has the methods that flag libraries ask for.
type Value interface {
	Set(text string) error
	String() string
	Type() string
}

// maxCount bounds counts whose real limit is the machine's: it keeps a slip of the finger apart
// from a number.
const maxCount = 1 << 30

// maxSize is the largest size in bytes, for the same reason.
const maxSize = 1 << 60

// Settings returns every setting, bound to c, in the order of the documented file.
func (c *Config) Settings() []Setting {
	s := c.serverSettings()
	s = append(s, c.brokerSettings()...)
	s = append(s, c.storageSettings()...)
	return append(s, c.limitSettings()...)
}

func (c *Config) serverSettings() []Setting {
	return []Setting{
		{"server.host", "host", "address to listen on", host{c}},
		{"server.port", "port", "port to listen on, 0 for a free one", port{c}},
		{"server.listen", "listen", "host:port to listen on, instead of host and port", hostPort{&c.Server.Listen, ""}},
		{"server.admin", "admin", "host:port of the HTTP listener for metrics and health, or off", hostPort{&c.Server.Admin, "off"}},
		{"server.name", "name", "name shown to clients", text{&c.Server.Name}},
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
		{"broker.hash", "hash", "how keys choose partitions of new topics: xxhash64, murmur2 or sum", choice(&b.Hash, "", "xxhash64", "murmur2", "sum")},
		{"broker.loops", "loops", "event loops, 0 for one less than the cores", integer{&b.Loops, 0, 256}},
		{"broker.partition", "partition", "the partition this broker owns, with total-partitions; a pod name like rafka-2 works too", ordinal{&b.Partition}},
		{"broker.total_partitions", "total-partitions", "brokers that share the topics, one partition each; 0 for off", integer{&b.TotalPartitions, 0, wire.MaxPartitions}},
	}
}

func (c *Config) storageSettings() []Setting {
	kind := choice(&c.Storage.Type, StorageFile, StorageMemory)
	kind.alias = map[string]string{"memory": StorageMemory}
	return []Setting{
		{"storage.type", "storage", "file, or in_memory to keep nothing over a restart", kind},
		{"storage.dir", "data", "directory of the data", text{&c.Storage.Dir}},
		{"storage.durability", "durability", "what an acknowledgement promises at least: memory, os or disk", choice(&c.Storage.Durability, "", "memory", "os", "disk")},
		{"storage.segment_bytes", "segment-bytes", "size of a segment file, such as 64MiB; 0 for the broker's choice", size{&c.Storage.SegmentBytes, 0, 1 << 30}},
		{"storage.memory_bytes", "memory-bytes", "budget of messages held in memory, such as 1GiB; 0 for a quarter of the memory, at most 1 GiB", size{&c.Storage.MemoryBytes, 0, maxSize}},
	}
}

func (c *Config) limitSettings() []Setting {
	return []Setting{
		{"retention.age", "retention-age", "how long messages are kept, such as 7d; 0 for ever", duration{&c.Retention.Age}},
		{"retention.bytes", "retention-bytes", "bytes kept per partition, such as 10GiB; 0 for no limit", size{&c.Retention.Bytes, 0, maxSize}},
		{"retention.count", "retention-count", "messages kept per partition; 0 for no limit", count{&c.Retention.Count}},
		{"limits.connections", "max-connections", "open connections; 0 for what the limit of open files allows", integer{&c.Limits.Connections, 0, maxCount}},
		{"limits.record_bytes", "max-record-bytes", "largest message, such as 1MiB", size{&c.Limits.RecordBytes, 1, wire.MaxFrameBytes - 1<<10}},
		{"limits.in_flight_bytes", "max-in-flight-bytes", "publishes of one connection that wait for durability", size{&c.Limits.InFlightBytes, 1 << 10, maxCount}},
		{"limits.pending_bytes", "max-pending-bytes", "what one connection may leave unread before it is closed", size{&c.Limits.PendingBytes, 1 << 10, maxCount}},
		{"limits.idle_timeout", "idle-timeout", "a silent connection is closed after this", period{&c.Limits.IdleTimeout}},
		{"limits.handshake_timeout", "handshake-timeout", "a new connection must finish its hello within this", period{&c.Limits.HandshakeTimeout}},
		{"limits.slow_timeout", "slow-timeout", "a connection that reads nothing of what waits for it is closed after this", period{&c.Limits.SlowTimeout}},
	}
}

// RetentionSeconds returns a Value that sets Retention.Age from a number of seconds.
func (c *Config) RetentionSeconds() Value { return seconds{&c.Retention.Age} }
