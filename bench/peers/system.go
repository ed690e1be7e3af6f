package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rafka-mq/rafka/wire"
)

// system is a server in one configuration, and the client that drives it.
type system struct {
	id      string // in the samples and for --systems
	name    string // in the tables
	program string // file name of the server
	// args returns the arguments of the server. It may set s.varz and write files into s.dir.
	args  func(s *server) ([]string, error)
	hello func(c net.Conn) error        // does the handshake on a bare connection, and waits for its end
	dial  func(s *server) (conn, error) // connects with the client
	pprof bool                          // the server has Go's profiles at its admin address
}

// systems returns all systems, in the order of the tables' columns.
func systems() []system {
	nats := func(id, name string, dial func(*server) (conn, error), config string) system {
		return system{id: id, name: name, program: "nats-server", args: natsArgs(config), hello: natsHello, dial: dial, pprof: true}
	}
	nsq := func(id, name, size string) system {
		return system{id: id, name: name, program: "nsqd", args: nsqArgs(size), hello: nsqHello, dial: dialNSQ, pprof: true}
	}
	redis := func(id, name string, dial func(*server) (conn, error), args ...string) system {
		return system{id: id, name: name, program: "redis-server", args: redisArgs(args), hello: redisHello, dial: dial}
	}
	rafka := func(id, name string, hello func(net.Conn) error, dial func(*server) (conn, error), args ...string) system {
		return system{id: id, name: name, program: "rafka", args: rafkaArgs(args), hello: hello, dial: dial, pprof: true}
	}
	memory := []string{"--storage", "in_memory", "--memory-bytes", "4GiB"}
	return []system{
		nats("nats", "NATS core", dialNATS, ""),
		nats("js-memory", "JetStream, memory", dialJetStream(jetstream.MemoryStorage), jetStreamOn),
		nats("js-file", "JetStream, file", dialJetStream(jetstream.FileStorage), jetStreamOn),
		nats("js-sync", "JetStream, sync always", dialJetStream(jetstream.FileStorage), jetStreamSync),
		nsq("nsq", "NSQ, memory", "2000000"),
		nsq("nsq-file", "NSQ, file", "0"),
		redis("redis-pubsub", "Redis, pub/sub", dialRedisPubSub, "--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0"),
		redis("redis", "Redis, no AOF", dialRedis, "--appendonly", "no"),
		redis("redis-everysec", "Redis, everysec", dialRedis, "--appendonly", "yes", "--appendfsync", "everysec"),
		redis("redis-always", "Redis, always", dialRedis, "--appendonly", "yes", "--appendfsync", "always"),
		rafka("rafka", "Rafka, memory", rafkaHello, dialRafka(wire.LevelMemory, true), memory...),
		rafka("rafka-file", "Rafka, file", rafkaHello, dialRafka(wire.LevelMemory, false), "--durability", "memory"),
		rafka("rafka-os", "Rafka, os", rafkaHello, dialRafka(wire.LevelOS, false), "--durability", "os"),
		rafka("rafka-disk", "Rafka, disk", rafkaHello, dialRafka(wire.LevelDisk, false), "--durability", "disk"),
		rafka("rafka-nats", "Rafka, NATS clients", natsHello, dialNATS, memory...),
	}
}

func systemNamed(id string) (system, error) {
	all := systems()
	i := slices.IndexFunc(all, func(s system) bool { return s.id == id })
	if i < 0 {
		return system{}, fmt.Errorf("no system has the id %q", id)
	}
	return all[i], nil
}

// Additions to the configuration of nats-server. %q is the data directory.
const (
	jetStreamOn   = "jetstream {store_dir: %q}\n"
	jetStreamSync = "jetstream {store_dir: %q, sync_interval: always}\n"
)

// natsArgs writes a configuration file, to which it adds more with the data directory filled in.
func natsArgs(more string) func(*server) ([]string, error) {
	return func(s *server) ([]string, error) {
		_, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			return nil, err
		}
		_, profiles, err := net.SplitHostPort(s.admin)
		if err != nil {
			return nil, err
		}
		s.varz = freeAddr()
		config := fmt.Sprintf("host: 127.0.0.1\nport: %s\nhttp: %q\nprof_port: %s\n", port, s.varz, profiles)
		if more != "" {
			config += fmt.Sprintf(more, s.dir)
		}
		name := filepath.Join(s.dir, "nats.conf")
		return []string{"-c", name, "-l", os.DevNull}, os.WriteFile(name, []byte(config), 0o600)
	}
}

// nsqArgs makes nsqd keep the given number of messages of each topic in memory. It writes the others to
// files, which it syncs every 2,500 messages or two seconds.
func nsqArgs(memory string) func(*server) ([]string, error) {
	return func(s *server) ([]string, error) {
		return []string{
			"--tcp-address", s.addr, "--http-address", s.admin, "--data-path", s.dir, "--log-level", "fatal",
			"--mem-queue-size", memory, "--max-body-size", "16777216",
		}, nil
	}
}

// redisArgs turns snapshots off.
func redisArgs(more []string) func(*server) ([]string, error) {
	return func(s *server) ([]string, error) {
		_, port, err := net.SplitHostPort(s.addr)
		args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--loglevel", "warning", "--maxclients", "15000"}
		return append(args, more...), err
	}
}

func rafkaArgs(more []string) func(*server) ([]string, error) {
	return func(s *server) ([]string, error) {
		s.varz = s.admin
		args := []string{"serve", "--listen", s.addr, "--admin", s.admin, "--data", filepath.Join(s.dir, "data"), "--log-level", "error"}
		return append(args, more...), nil
	}
}

// The ids of the systems that store messages, by where a message is when it is acknowledged.
var (
	inMemory = []string{"js-memory", "nsq", "redis", "rafka"}
	inKernel = []string{"js-file", "nsq-file", "redis-everysec", "rafka-os"}
	onDisk   = []string{"js-sync", "redis-always", "rafka-disk"}
)
