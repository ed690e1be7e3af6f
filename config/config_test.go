package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func parse(t *testing.T, yml string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rafka.yml")
	require.NoError(t, os.WriteFile(path, []byte(yml), 0o600))
	c := Default()
	err := c.Load(path)
	return c, err
}

// changed has, for every key, a value that is not the default.
var changed = map[string]string{
	"server.host":                     "0.0.0.0",
	"server.port":                     "9092",
	"server.listen":                   "localhost:1",
	"server.admin":                    "off",
	"server.name":                     "blue",
	"log.level":                       "debug",
	"log.format":                      "json",
	"broker.replication_factor":       "3",
	"broker.default_topic_partitions": "12",
	"broker.auto_create_topics":       "false",
	"broker.hash":                     "murmur2",
	"broker.loops":                    "2",
	"broker.partition":                "1",
	"broker.total_partitions":         "3",
	"storage.type":                    "in_memory",
	"storage.dir":                     "/var/lib/rafka",
	"storage.durability":              "os",
	"storage.segment_bytes":           "1MiB",
	"storage.memory_bytes":            "2GiB",
	"retention.age":                   "90s",
	"retention.bytes":                 "10GiB",
	"retention.count":                 "1000",
	"limits.connections":              "100",
	"limits.connection_rate":          "50",
	"limits.record_bytes":             "2MiB",
	"limits.in_flight_bytes":          "1MiB",
	"limits.pending_bytes":            "1MiB",
	"limits.unread_bytes":             "2MiB",
	"limits.slow_timeout":             "3s",
	"limits.idle_timeout":             "1m",
	"limits.handshake_timeout":        "5s",
	"limits.auth_timeout":             "3",
	"limits.control_line":             "8KiB",
	"limits.subscriptions":            "77",
	"limits.scheduled":                "78",
	"limits.ping_interval":            "1m",
	"limits.ping_max":                 "7",
	"server.client_advertise":         "example.com:4222",
	"server.headers":                  "false",
	"server.insecure":                 "true",
	"server.lame_duck_duration":       "30s",
	"server.lame_duck_grace_period":   "5s",
	"tls.cert":                        "cert.pem",
	"tls.key":                         "key.pem",
	"tls.ca":                          "ca.pem",
	"tls.verify":                      "true",
	"tls.verify_and_map":              "true",
	"tls.handshake_first":             "auto",
	"tls.allow_non_tls":               "true",
	"tls.timeout":                     "5",
}

func TestEveryKeyChangesTheConfig(t *testing.T) {
	seen := make(map[string]string)
	seen[fmt.Sprint(Default())] = "the default"
	c := Default()
	for _, s := range c.Settings() {
		value, ok := changed[s.Key]
		require.True(t, ok, "the table has no value for %s", s.Key)
		section, name := cutKey(s.Key)
		got, err := parse(t, section+":\n  "+name+": "+value+"\n")
		require.NoError(t, err, s.Key)
		require.Empty(t, seen[fmt.Sprint(got)], "%s changes nothing of its own", s.Key)
		seen[fmt.Sprint(got)] = s.Key
	}
	require.Len(t, changed, len(c.Settings()))
}

func TestTheDocumentedFileIsTheDefault(t *testing.T) {
	b, err := os.ReadFile("rafka.yml")
	require.NoError(t, err)
	c := Default()
	require.NoError(t, c.Load("rafka.yml"))
	require.Equal(t, Default(), c)

	text := string(b)
	for _, s := range c.Settings() {
		_, name := cutKey(s.Key)
		require.Contains(t, text, "\n  "+name+": ", "%s is not documented", s.Key)
		require.Contains(t, text, "--"+s.Flag, "the flag of %s is not documented", s.Key)
	}
}

func TestTheFileOfTheFirstRafkaIsUnderstood(t *testing.T) {
	got, err := parse(t, `
server:
  host: "127.0.0.1"
  port: 9092
log:
  level: "info" # debug, info, warn, error
broker:
  replication_factor: 3
  default_topic_partitions: 1
storage:
  type: "in_memory"
`)
	require.NoError(t, err)
	want := Default()
	want.Server.Port = 9092
	want.Broker.ReplicationFactor = 3
	want.Storage.Type = StorageMemory
	require.Equal(t, want, got)
	require.Equal(t, "127.0.0.1:9092", got.ListenAddr())
	require.Equal(t, wire.LevelMemory, got.Level())
	require.Len(t, got.Warnings(), 1)
	require.Contains(t, got.Warnings()[0], "cluster mode")
}

func TestEmptyFilesKeepTheDefaults(t *testing.T) {
	for _, yml := range []string{"", "# nothing\n", "---\n", "server:\n", "server:\n  port:\n", "storage: ~\n"} {
		c, err := parse(t, yml)
		require.NoError(t, err, "%q", yml)
		require.Equal(t, Default(), c, "%q", yml)
	}
}

func TestRefusedFilesMarkTheLine(t *testing.T) {
	f := func(yml string, line, column int, reason, mark string) {
		t.Helper()
		c, err := parse(t, yml)
		e, ok := errors.AsType[*FileError](err)
		require.True(t, ok, "%q: %v", yml, err)
		require.Equal(t, [2]int{line, column}, [2]int{e.Line, e.Column}, "%q: %v", yml, err)
		require.Contains(t, e.Reason, reason)
		require.Contains(t, e.Excerpt, mark)
		require.Contains(t, e.Excerpt, "^")
		require.Equal(t, Default(), c, "a refused file must change nothing")
	}
	f("server:\n  prot: 1\n", 2, 3, `unknown key "server.prot" - did you mean "server.port"?`, ">  2 |   prot: 1")
	f("server:\n  port: 1\nstorage:\n  fsync: always\n", 4, 3, `unknown key "storage.fsync"`, ">  4 |   fsync")
	f("server:\n  dir: x\n", 2, 3, `did you mean "storage.dir"?`, "dir: x")
	f("sever:\n  port: 1\n", 1, 1, `unknown key "sever" - did you mean "server"?`, "sever:")
	f("prt: 1\n", 1, 1, `unknown key "prt" - did you mean "port"?`, "prt: 1")
	f("port: 1\nhttp_port: 8222\n", 2, 1, `"http_port" is a key of nats-server: write server.admin: 127.0.0.1:8222`, "http_port")
	f("port = 1\n", 1, 1, `the file is YAML: key: value`, "port = 1")
	f("authorization {\n  user: a\n}\n", 1, 1, `the file is YAML: key: value`, "authorization {")
	f("users:\n  - user: a\n    passwd: b\n", 3, 5, `unknown key "passwd" - did you mean "password"?`, "passwd: …")
	f("users: 1\n", 1, 8, `a list is expected here`, "users: 1")
	f("users:\n  - user: a\n    permissions:\n      publish:\n        alow: x\n", 5, 9, `unknown key "alow" - did you mean "allow"?`, "alow: x")
	f("users:\n  - user: a\n    permission:\n      publish: x\n", 3, 5, `unknown key "permission" - did you mean "permissions"?`, "permission:")
	f("default_permissions:\n  allow_response: true\n", 2, 3, `unknown key "allow_response" - did you mean "allow_responses"?`, "allow_response:")
	f("users:\n  - user: a\n    publish: x\n", 3, 5, `"publish" does not belong here, but to another level`, "publish: x")
	f("users:\n  - user: a\n    zzzzzz: x\n", 3, 5, `unknown key "zzzzzz"`, "zzzzzz: x")
	f("authorization:\n  usr: a\n", 2, 3, `unknown key "authorization.usr"`, "usr: a")
	f("tls:\n  handshake_first: soon\n", 2, 20, `is not true, false, auto or a duration`, "soon")
	f("zzzzzz: 1\n", 1, 1, `unknown key "zzzzzz"`, "zzzzzz")
	f("server:\n  port: many\n", 2, 9, `server.port: "many" is not a whole number`, "port: many")
	f("server:\n  port: 70000\n", 2, 9, `70000 is outside 0 to 65535`, "70000")
	f("server:\n  admin: here\n", 2, 10, `"here" is not host:port`, "here")
	f("server:\n  listen: here:port\n", 2, 11, `has no port`, "here")
	f("server:\n  port: [1]\n", 2, 9, `takes one plain value`, "[")
	f("server:\n  port: {a: 1}\n", 2, 9, `takes one plain value`, "a:")
	f("server: 1\n", 1, 9, `keys and values are expected`, "server: 1")
	f("- a\n- b\n", 1, 1, `keys and values are expected`, "- a")
	f("log:\n  level: loud\n", 2, 10, `"loud" is not one of debug, info, warn, error`, "loud")
	f("broker:\n  replication_factor: 0\n", 2, 23, `0 is outside 1 to 64`, "0")
	f("broker:\n  auto_create_topics: maybe\n", 2, 23, `neither true nor false`, "maybe")
	f("storage:\n  durability: quorum\n", 2, 15, `is not one of memory, os, disk`, "quorum")
	f("storage:\n  memory_bytes: 5 bananas\n", 2, 17, `is not a size`, "bananas")
	f("retention:\n  age: -1s\n", 2, 8, `not a duration`, "-1s")
	f("retention:\n  age: 999999999d\n", 2, 8, `not a duration`, "d")
	f("retention:\n  age: 10ms\n", 2, 8, `shorter than a second`, "10ms")
	f("limits:\n  idle_timeout: 0\n", 2, 17, `would close every connection`, "0")
	f("limits:\n  record_bytes: 8MiB\n", 2, 17, `outside 1 to 8387584 bytes`, "8MiB")
	f("retention:\n  count: -1\n", 2, 10, `not a whole number of 0 or more`, "-1")
	f("server:\n  port: 1\n  port: 2\n", 3, 3, `already defined`, "port: 2")
	f("port: 1\nserver:\n  port: 2\n", 3, 3, `port and server.port are the same setting`, "port: 2")
	f("max_subs: 1\nmax_subscriptions: 2\n", 2, 1, `max_subs and max_subscriptions are the same setting`, "max_subscriptions")
	f("server:\n  port: &p 1\n", 2, 9, `anchors, aliases and tags`, "&p")
	f("server: &s\n  port: 1\n", 1, 9, `anchors, aliases and tags`, "&s")
	f("server:\n  port: !!int 1\n", 2, 9, `anchors, aliases and tags`, "!!int")
	f("server: [\n", 1, 9, `not found`, "[")
	f("server:\n  port: 1\n---\nserver:\n  port: 2\n", 4, 7, `a second document`, "server:")
}

func TestUnreadableFiles(t *testing.T) {
	c := Default()
	require.ErrorIs(t, c.Load(filepath.Join(t.TempDir(), "none.yml")), os.ErrNotExist)

	big := filepath.Join(t.TempDir(), "big.yml")
	require.NoError(t, os.WriteFile(big, make([]byte, maxFileBytes+1), 0o600))
	e, ok := errors.AsType[*FileError](c.Load(big))
	require.True(t, ok)
	require.Zero(t, e.Line)
	require.Contains(t, e.Error(), "is too much")

	dir := t.TempDir()
	e, ok = errors.AsType[*FileError](c.Load(dir))
	require.True(t, ok)
	require.Equal(t, dir+": cannot be read: is a directory", e.Error())
}

func TestAMarkOfTheByteOrderIsNoPartOfTheFirstKey(t *testing.T) {
	c, err := parse(t, "\ufefflog:\r\n  level: debug\r\n")
	require.NoError(t, err)
	require.Equal(t, "debug", c.Log.Level)
}

func TestSettingsAgainstEachOther(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := Default()
		change(&c)
		err := c.Validate()
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, want)
	}
	f("", func(*Config) {})
	f("", func(c *Config) { c.Broker.Partition, c.Broker.TotalPartitions = 2, 3 })
	f("the partitions are 0 to 2", func(c *Config) { c.Broker.Partition, c.Broker.TotalPartitions = 3, 3 })
	f("total_partitions is not set", func(c *Config) { c.Broker.Partition = 1 })
	f("", func(c *Config) { c.Storage.Type = StorageMemory })
	f("needs files", func(c *Config) { c.Storage.Type, c.Storage.Durability = StorageMemory, "disk" })
	f("storage.dir is empty", func(c *Config) { c.Storage.Dir = "" })
	f("storage.memory_bytes is 1024, but the least is 1MiB", func(c *Config) { c.Storage.MemoryBytes = 1024 })
}

func TestAnAdminServerThatOthersReachIsAWarning(t *testing.T) {
	f := func(admin string, insecure bool, want int) {
		t.Helper()
		c := Default()
		c.Server.Admin, c.Server.Insecure = admin, insecure
		require.Len(t, c.Warnings(), want, admin)
	}
	for _, admin := range []string{Default().Server.Admin, "off", "127.0.0.1:0", "localhost:1", "[::1]:1"} {
		f(admin, false, 0)
	}
	for _, admin := range []string{":8222", "0.0.0.0:8222", "[::]:1", "10.0.0.1:1"} {
		f(admin, false, 1)
		f(admin, true, 0)
	}
}

func TestLevelFollowsTheStorage(t *testing.T) {
	c := Default()
	require.Equal(t, wire.LevelDisk, c.Level())
	c.Storage.Durability = "os"
	require.Equal(t, wire.LevelOS, c.Level())
	c.Storage = Storage{Type: StorageMemory}
	require.Equal(t, wire.LevelMemory, c.Level())
}

func TestSharedPartitionsHashLikeTheFirstRafka(t *testing.T) {
	c := Default()
	require.Equal(t, "xxhash64", c.KeyHash())
	c.Broker.TotalPartitions = 3
	require.Equal(t, "sum", c.KeyHash())
	c.Broker.Hash = "murmur2"
	require.Equal(t, "murmur2", c.KeyHash())
}

func TestHostAndPortChangeAnAddressOfAWeakerSource(t *testing.T) {
	c := Default()
	c.Server.Listen = "0.0.0.0:1"
	require.NoError(t, port{&c}.Set("2"))
	require.Equal(t, "0.0.0.0:2", c.ListenAddr())
	require.NoError(t, host{&c}.Set("::1"))
	require.Equal(t, "[::1]:2", c.ListenAddr())
}

func TestPartitionFromAPodName(t *testing.T) {
	c := Default()
	require.NoError(t, ordinal{&c.Broker.Partition}.Set("rafka-broker-2"))
	require.Equal(t, 2, c.Broker.Partition)
	require.Error(t, ordinal{&c.Broker.Partition}.Set("rafka-broker"))
	require.Error(t, ordinal{&c.Broker.Partition}.Set("-1"))
}

func TestRetentionSeconds(t *testing.T) {
	c := Default()
	v := c.RetentionSeconds()
	require.Equal(t, "604800", v.String())
	require.NoError(t, v.Set("3"))
	require.Equal(t, 3*time.Second, c.Retention.Age)
	require.Error(t, v.Set("3s"))
	require.Error(t, v.Set("-3"))
}

// Every value that prints can be set again to the same thing.
func TestValuesPrintWhatTheyRead(t *testing.T) {
	for key, value := range changed {
		a, b := Default(), Default()
		i := slices.IndexFunc(a.Settings(), func(s Setting) bool { return s.Key == key })
		require.NoError(t, a.Settings()[i].Value.Set(value))
		require.NoError(t, b.Settings()[i].Value.Set(a.Settings()[i].Value.String()))
		require.Equal(t, a, b, key)
		require.NotEmpty(t, a.Settings()[i].Value.Type())
	}
}

func TestNearest(t *testing.T) {
	known := slices.Sorted(maps.Keys(changed))
	require.Equal(t, "storage.dir", Nearest("storage.dri", known))
	require.Equal(t, "retention.bytes", Nearest("retention.byte", known))
	require.Empty(t, Nearest("x", known))
	require.Empty(t, Nearest("", known))
	require.Empty(t, Nearest(strings.Repeat("q", 40), known))
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("rafka.yml")
	require.NoError(f, err)
	f.Add(b)
	for _, s := range []string{"server:\n  prot: 1\n", "a: [", "&a a: *a", "server: !!x\n", "? a\n: b\n", "\t", "<<: {a: 1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Default()
		if err := c.parse("fuzz.yml", b); err != nil {
			_, ok := errors.AsType[*FileError](err)
			require.True(t, ok, "%T %v", err, err)
			require.Equal(t, Default(), c)
			return
		}
		_ = c.Validate()
	})
}

// What the errors tell people to write instead exists.
func TestTheKeysOfNATSHaveCounterparts(t *testing.T) {
	c := Default()
	known := map[string]bool{}
	for _, s := range c.Settings() {
		known[s.Key] = true
	}
	key := regexp.MustCompile(`\b(server|log|broker|storage|retention|limits|tls)\.[a-z_]+`)
	for name, instead := range foreign {
		require.NotContains(t, aliases, name)
		require.False(t, known[name])
		for _, k := range key.FindAllString(instead, -1) {
			require.True(t, known[k], "%s: %s", name, instead)
		}
	}
}
