package partition

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// The metadata log is an ordinary log with the zero identity. Its entries are changes of the set of topics, in
// JSON so that a person can read them. Its checkpointed state is the set of topics.

// change is one entry of the metadata log.
type change struct {
	Version int `json:"version,omitempty"` // of the format; 0 is the first

	Put      *record `json:"put,omitempty"`      // create the topic, or replace its configuration
	Deleting string  `json:"deleting,omitempty"` // id of a topic whose logs are about to be removed
	Deleted  string  `json:"deleted,omitempty"`  // id of a topic whose logs are gone

	Generations uint32 `json:"generations,omitempty"` // all numbers below may have been used as generations of members
}

// record is a topic in the metadata log.
type record struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Partitions int               `json:"partitions"`
	Settings   map[string]string `json:"settings"`
	Deleting   bool              `json:"deleting,omitempty"`
	Before     int               `json:"before,omitempty"` // partitions before a growth that may be unfinished; 0: none is
}

// metadata is the state of the metadata log.
type metadata struct {
	Version int                `json:"version"`
	Topics  map[string]*record `json:"topics"` // by id

	Generations uint32 `json:"generations,omitempty"`
}

const metadataVersion = 1

func newMetadata() *metadata {
	return &metadata{Version: metadataVersion, Topics: map[string]*record{}}
}

// apply makes a change. It is the only place where metadata changes, for new entries and on replay alike.
func (m *metadata) apply(c change) {
	switch {
	case c.Put != nil:
		m.Topics[c.Put.ID] = c.Put
	case c.Deleting != "":
		if t := m.Topics[c.Deleting]; t != nil {
			t.Deleting = true
		}
	case c.Deleted != "":
		delete(m.Topics, c.Deleted)
	case c.Generations != 0:
		m.Generations = c.Generations
	}
}

// parseMetadata reads the state in a checkpoint. The error is log.ErrVersion for a newer format.
func parseMetadata(blob []byte) (*metadata, error) {
	m := newMetadata()
	if len(blob) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(blob, m); err != nil {
		return nil, fmt.Errorf("read topic metadata: %w", err)
	}
	return m, checkVersion(m.Version)
}

// TopicNames returns the names of the topics by their ids. blob is the snapshot of the metadata log, the one with the zero
// identity, in a checkpoint.
func TopicNames(blob []byte) (map[[16]byte]string, error) {
	m, err := parseMetadata(blob)
	if err != nil {
		return nil, err
	}
	names := make(map[[16]byte]string, len(m.Topics))
	for _, t := range m.Topics {
		if id, err := uuid.Parse(t.ID); err == nil {
			names[id] = t.Name
		}
	}
	return names, nil
}

// checkVersion returns log.ErrVersion for a newer version of the metadata.
func checkVersion(version int) error {
	if version > metadataVersion {
		return fmt.Errorf("read topic metadata: %w: version %d, not %d", log.ErrVersion, version, metadataVersion)
	}
	return nil
}

// check returns why a topic cannot be opened, or nil.
func (m *metadata) check() error {
	for _, rec := range m.Topics {
		if _, err := rec.config(); err != nil && !rec.Deleting {
			return err
		}
	}
	return nil
}

// parseChange reads an entry. One that is no change changes nothing.
func parseChange(e wire.Entry) (c change, err error) {
	if e.Kind != wire.KindConfig {
		return c, nil
	}
	if err := json.Unmarshal(e.Payload[4:], &c); err != nil {
		return c, fmt.Errorf("metadata entry %d: %w", e.Index, err)
	}
	return c, checkVersion(c.Version)
}

// replayMetadata rebuilds the metadata from its log.
func replayMetadata(l *log.Log) (*metadata, error) {
	m, err := parseMetadata(l.State())
	if err != nil {
		return nil, err
	}
	err = l.Replay(func(e wire.Entry) error {
		c, err := parseChange(e)
		if err == nil {
			m.apply(c)
		}
		return err
	})
	return m, err
}

// recordOf returns the metadata record of a topic.
func recordOf(id [16]byte, name string, partitions int, c Config) *record {
	r := &record{ID: uuid.UUID(id).String(), Name: name, Partitions: partitions, Settings: map[string]string{}}
	for _, s := range c.settings() {
		r.Settings[s.Key] = s.Value
	}
	return r
}

// config returns the topic's configuration. The error is log.ErrVersion for a setting that only a newer version knows.
func (r *record) config() (Config, error) {
	changes := make([]wire.Setting, 0, len(r.Settings))
	for k, v := range r.Settings {
		if !isSetting(k) {
			return Config{}, fmt.Errorf("topic %q in the metadata: %w: setting %q", r.Name, log.ErrVersion, k)
		}
		changes = append(changes, wire.Setting{Key: k, Value: v})
	}
	c, err := defaultConfig().with(changes)
	if err != nil {
		return c, fmt.Errorf("topic %q in the metadata: %w", r.Name, err)
	}
	return c, nil
}
