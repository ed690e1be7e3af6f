package wire

import "fmt"

// Level is the durability that a publish must reach before it is acknowledged. A higher level includes every
// lower one.
type Level uint8

const (
	// LevelDefault asks for the topic's own level. It is never the level of a topic or of a reply.
	LevelDefault Level = 0
	// LevelNone is fire and forget: the broker replies only when the publish fails.
	LevelNone Level = 1
	// LevelMemory is reached when the batch is in the broker's memory.
	LevelMemory Level = 2
	// LevelOS is reached when the batch is written to the kernel: it survives a crash of the process.
	LevelOS Level = 3
	// LevelDisk is reached when the batch is flushed to the device: it survives a power loss.
	LevelDisk Level = 4
	// LevelQuorum is reserved for clusters: a majority of replicas has stored the batch.
	LevelQuorum Level = 5
)

var levelNames = [...]string{"default", "none", "memory", "os", "disk", "quorum"}

// String returns the level's name as used in configuration and on the command line.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// Valid reports whether this version knows the level, LevelDefault included.
func (l Level) Valid() bool { return int(l) < len(levelNames) }

// ParseLevel returns the level with a name such as "disk".
func ParseLevel(name string) (Level, error) {
	for i, n := range levelNames {
		if n == name {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("wire: unknown durability level %q (none, memory, os, disk)", name)
}
