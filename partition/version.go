package partition

import (
	"errors"
	"fmt"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// A broker does not start on what a newer version wrote, and finds out before it changes a file: log.Open asks RefuseState
// and RefuseEntry.

// newer makes group.ErrVersion a log.ErrVersion, too: to who opens a data directory it makes no difference which of its
// parts is newer.
func newer(err error) error {
	if errors.Is(err, group.ErrVersion) {
		return fmt.Errorf("%w: %w", log.ErrVersion, err)
	}
	return err
}

// CheckState returns why the snapshot of a log in a checkpoint is unreadable, or nil. The error is log.ErrVersion for
// what a newer version wrote.
func CheckState(id wire.Identity, blob []byte) error {
	switch {
	case id.Partition&companion != 0:
		return nil // a companion log has no state
	case id.Topic == [16]byte{}:
		m, err := parseMetadata(blob)
		if err != nil {
			return err
		}
		return m.check()
	}
	return newer(new(Partition).restore(blob))
}

// RefuseState returns why a broker cannot start with the snapshot of a log, or nil: a newer version wrote it, or it is that
// of the metadata and unreadable. It is for log.Options, and reads little of a snapshot.
func RefuseState(id wire.Identity, blob []byte) error {
	if id.Topic == [16]byte{} || id.Partition&companion != 0 {
		return CheckState(id, blob)
	}
	consumers, _, _, err := openEnvelope(blob)
	if err == nil {
		err = group.CheckSnapshot(consumers)
	}
	return newer(err)
}

// RefuseEntry is RefuseState for an entry without records that stands behind the snapshot.
func RefuseEntry(id wire.Identity, e wire.Entry) error {
	body := e.Payload[4:]
	switch {
	case id.Topic == [16]byte{}:
		c, err := parseChange(e)
		if err != nil || c.Put == nil || c.Put.Deleting {
			return err
		}
		_, err = c.Put.config()
		return err
	case id.Partition&companion != 0, e.Kind != wire.KindState:
		return nil
	case !isUsed(body):
		return newer(group.CheckCommand(body))
	}
	if _, err := openUsed(body); errors.Is(err, group.ErrVersion) {
		return newer(err)
	}
	return nil
}
