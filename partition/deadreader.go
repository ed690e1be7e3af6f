package partition

import (
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// deadReader reads the records of dead letters. It keeps the batch of the last one, and its place there, because those that
// die together were often published together: to read, check and decompress the batch for each of a million records, and
// to walk to its place, would take hours. The owner releases c in the end.
type deadReader struct {
	p       *Partition
	c       log.Chunk
	entry   wire.Entry
	records wire.RecordReader
	at      uint64 // offset of the next one of records
	end     uint64 // offset behind them
}

// record returns the record at offset, which is valid until the next call. Errors are those of recordAt, and of reading.
func (r *deadReader) record(offset uint64) (wire.Record, error) {
	if offset < r.at || offset >= r.end {
		if err := r.open(offset); err != nil {
			return wire.Record{}, err
		}
	}
	var rec wire.Record
	for ; r.at <= offset; r.at++ {
		switch more, err := r.records.Next(&rec); {
		case err != nil:
			r.at, r.end = 0, 0
			return wire.Record{}, Undecodable(&r.entry, err)
		case !more:
			return wire.Record{}, outOfRange(offset, offset, r.end)
		}
	}
	if rec.Removed {
		return wire.Record{}, outOfRange(offset, offset+1, r.end)
	}
	return rec, nil
}

// open reads the batch that holds an offset. It reads from the log, so that a record past its time to live is buried, too:
// it failed before.
func (r *deadReader) open(offset uint64) error {
	r.at, r.end = 0, 0
	r.c.Release()
	if err := r.p.log.ReadCold(&r.c, offset, r.p.Visible(), 1); err != nil {
		return r.p.readError(offset, err)
	}
	for e, err := range entries(&r.c) {
		if err != nil {
			return wire.Errorf(wire.CodeInternal, "read entries: %v", err)
		}
		if e.Kind != wire.KindData || offset < e.BaseOffset || offset >= e.NextOffset() {
			continue
		}
		batch, err := Unpacked(&e)
		if err != nil {
			return err
		}
		r.entry, r.records, r.at, r.end = e, batch.Reader(), e.BaseOffset, e.NextOffset()
		return nil
	}
	return outOfRange(offset, r.c.Next, r.c.Next)
}
