package partition

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// Config is a topic's configuration, set by the user who creates or alters the topic.
type Config struct {
	// Level is the lowest durability of a publish. Consumers see a record when it has reached this level.
	Level wire.Level
	// Retention says what may be removed. A zero field means no limit.
	Retention log.Retention
	// SegmentBytes is the size of a segment file in bytes. 0 means the store's default.
	SegmentBytes int64
	// SegmentAge is the age at which a segment is sealed. 0 means the store's default.
	SegmentAge time.Duration
	// MaxRecord is how many bytes the key, headers and value of a record have at most.
	MaxRecord int
	// Hash chooses the partition of a key.
	Hash wire.Hash
	// Compact keeps the latest record of every key, and has Retention ignored.
	Compact bool
	// TombstoneRetention is how long compaction keeps a record that deletes a key.
	TombstoneRetention time.Duration
	// DedupeWindow is how long a message id is remembered. 0 means that ids are not remembered.
	DedupeWindow time.Duration
	// Subjects are the subject patterns that the topic is bound to, separated by commas. Empty means the
	// topic's own name, and "none" no subject.
	Subjects string
}

// defaultConfig returns the configuration of a topic without settings: level disk, kept for seven days.
func defaultConfig() Config {
	return Config{
		Level:     wire.LevelDisk,
		Retention: log.Retention{Age: 7 * 24 * time.Hour},
		MaxRecord: wire.DefaultMaxRecordBytes,

		TombstoneRetention: 24 * time.Hour,
	}
}

// setting is one key of a topic's configuration with its text form.
type setting struct {
	key string
	get func(c *Config) string
	set func(c *Config, value string) error
}

var settings = []setting{
	{"cleanup", func(c *Config) string { return cleanupNames[c.Compact] }, setCleanup},
	{
		"dedupe_window", func(c *Config) string { return formatDuration(c.DedupeWindow) },
		func(c *Config, v string) error { return setDuration(&c.DedupeWindow, v) },
	},
	{"durability", func(c *Config) string { return c.Level.String() }, setLevel},
	{
		"hash", func(c *Config) string { return hashNames[c.Hash] },
		func(c *Config, v string) error { return setHash(&c.Hash, v) },
	},
	{
		"max_record_bytes", func(c *Config) string { return strconv.Itoa(c.MaxRecord) },
		func(c *Config, v string) error {
			var n int64
			err := setBytes(&n, v, 1, wire.MaxRecordBytes)
			c.MaxRecord = int(n)
			return err
		},
	},
	{
		"retention", func(c *Config) string { return formatDuration(c.Retention.Age) },
		func(c *Config, v string) error { return setDuration(&c.Retention.Age, v) },
	},
	{
		"retention_bytes", func(c *Config) string { return strconv.FormatInt(c.Retention.Bytes, 10) },
		func(c *Config, v string) error { return setBytes(&c.Retention.Bytes, v, 0, 1<<62) },
	},
	{
		"retention_count", func(c *Config) string { return strconv.FormatInt(c.Retention.Count, 10) },
		func(c *Config, v string) error { return setBytes(&c.Retention.Count, v, 0, 1<<62) },
	},
	{
		"segment_age", func(c *Config) string { return formatDuration(c.SegmentAge) },
		func(c *Config, v string) error { return setDuration(&c.SegmentAge, v) },
	},
	{
		"segment_bytes", func(c *Config) string { return strconv.FormatInt(c.SegmentBytes, 10) },
		func(c *Config, v string) error {
			var n int64
			err := setBytes(&n, v, 0, 1<<30)
			if err == nil && n != 0 && n < 4<<10 {
				return fmt.Errorf("%q is below 4096", v)
			}
			c.SegmentBytes = n
			return err
		},
	},
	{"subjects", func(c *Config) string { return c.Subjects }, setSubjects},
	{
		"tombstone_retention", func(c *Config) string { return formatDuration(c.TombstoneRetention) },
		func(c *Config, v string) error { return setDuration(&c.TombstoneRetention, v) },
	},
}

var hashNames = [...]string{wire.HashXXH64: "xxhash64", wire.HashMurmur2: "murmur2", wire.HashSum: "sum"}

var cleanupNames = map[bool]string{false: "delete", true: "compact"}

func setCleanup(c *Config, v string) error {
	for compact, name := range cleanupNames {
		if v == name {
			c.Compact = compact
			return nil
		}
	}
	return fmt.Errorf("%q is not one of delete, compact", v)
}

func setHash(h *wire.Hash, v string) error {
	i := slices.Index(hashNames[:], v)
	if i < 0 {
		return fmt.Errorf("%q is not one of %s", v, strings.Join(hashNames[:], ", "))
	}
	*h = wire.Hash(i)
	return nil
}

func setLevel(c *Config, v string) error {
	level, err := wire.ParseLevel(v)
	if err != nil || level < wire.LevelMemory || level > wire.LevelDisk {
		return fmt.Errorf("%q is not one of memory, os, disk", v)
	}
	c.Level = level
	return nil
}

// setDuration accepts what wire.ParseDuration does: 0, or 1 s and more.
func setDuration(d *time.Duration, v string) error {
	if v == "" {
		return errors.New("the value is empty; a duration is such as 90s, 12h or 7d")
	}
	n, err := wire.ParseDuration(v)
	if err != nil {
		return err
	}
	if n > 0 && n < time.Second {
		return fmt.Errorf("%q is shorter than a second", v)
	}
	*d = n
	return nil
}

func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// setBytes accepts an integer from low to high, plain or with a suffix of KiB, MiB or GiB.
func setBytes(n *int64, v string, low, high int64) error {
	digits, unit := v, int64(1)
	for suffix, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(v, suffix); ok {
			digits, unit = d, size
		}
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || i < 0 || i > high/unit || i*unit < low {
		return fmt.Errorf("%q is not a whole number from %d to %d, alone or with KiB, MiB or GiB", v, low, high)
	}
	*n = i * unit
	return nil
}

// with returns c with the given settings changed. For an unknown key or an invalid value the error is a
// *wire.Error with CodeInvalid that names it.
func (c Config) with(changes []wire.Setting) (Config, error) {
	for _, change := range changes {
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == change.Key })
		if i < 0 {
			return c, wire.Errorf(wire.CodeInvalid, "unknown topic setting %q (known: %s)", change.Key, settingKeys())
		}
		if err := settings[i].set(&c, change.Value); err != nil {
			return c, wire.Errorf(wire.CodeInvalid, "topic setting %s: %v", change.Key, err)
		}
	}
	return c, nil
}

// settings returns every setting of c in key order.
func (c Config) settings() []wire.Setting {
	out := make([]wire.Setting, len(settings))
	for i, s := range settings {
		out[i] = wire.Setting{Key: s.key, Value: s.get(&c)}
	}
	return out
}

func isSetting(key string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
}

func settingKeys() string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return strings.Join(keys, ", ")
}

// CheckName returns a *wire.Error with CodeInvalid when name is not a valid topic name. A name has 1 to 255
// bytes: ASCII letters, digits, '_' and '-', in non-empty tokens separated by '.'. So every topic name is a
// valid literal subject, too.
func CheckName(name string) error { return wire.CheckName("topic", name) }
