package wire

import "fmt"

// Level says how far a publish must get before it is acknowledged. Levels are ordered: a higher
// level includes every lower one.
type Level uint8

const (
	// LevelDefault asks for the topic's own level. It is never the level of a topic or of a reply.
	LevelDefault Level = 0
	// LevelNone is fire and forget: the broker sends a reply only when the publish failed.
	LevelNone Level = 1
	// LevelMemory is reached when the batch is in the broker's memory.
	LevelMemory Level = 2
	// LevelOS is reached when the batch was written to the kernel: it survives the process.
	LevelOS Level = 3
	// LevelDisk is reached when the batch was flushed to the device: it survives power loss.
	LevelDisk Level = 4
	// LevelQuorum is reached when a majority of replicas stored the batch. Reserved for clusters.
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

// Valid reports whether l is a level this version knows, LevelDefault included.
func (l Level) Valid() bool { return int(l) < len(levelNames) }

// ParseLevel returns the level of a name such as "disk".
func ParseLevel(name string) (Level, error) {
	for i, n := range levelNames {
		if n == name {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("wire: unknown durability level %q (none, memory, os, disk)", name)
}
