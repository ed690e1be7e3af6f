package bench

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// windowBytes is how much may be unanswered: enough to keep a loopback connection busy.
	windowBytes = 1 << 20
	// chunkBytes is what the driver writes at once.
	chunkBytes = 64 << 10
)

// publishRate publishes the same frame for d and returns acknowledged frames per second. The
// acknowledgements are counted, and their offsets must follow each other.
func publishRate(c *fdConn, frame []byte, records int, d time.Duration) (float64, error) {
	return publishPaced(c, frame, records, d, func(uint64) bool { return true })
}

// paceInterval is how soon a publisher that is too far ahead looks again.
const paceInterval = 50 * time.Microsecond

// publishPaced is publishRate for as long as may says that so many frames may be followed by more.
func publishPaced(c *fdConn, frame []byte, records int, d time.Duration, may func(sent uint64) bool) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := max(1, chunkBytes/len(frame))
	window := max(2*n, windowBytes/len(frame))
	chunk := slices.Repeat(frame, n)
	a := acks{c: c, records: uint64(records)}
	start := time.Now()
	var sent uint64
	for time.Since(start) < d {
		for sent-a.count > uint64(window-n) {
			if err := a.take(); err != nil {
				return 0, err
			}
		}
		if !may(sent) {
			time.Sleep(paceInterval)
			continue
		}
		for i := range n {
			binary.LittleEndian.PutUint32(chunk[i*len(frame)+6:], uint32(sent)+uint32(i))
		}
		if err := c.write(chunk); err != nil {
			return 0, err
		}
		sent += uint64(n)
	}
	for a.count < sent {
		if err := a.take(); err != nil {
			return 0, err
		}
	}
	return float64(sent) / time.Since(start).Seconds(), nil
}

// acks counts publish replies of one partition.
type acks struct {
	c       *fdConn
	records uint64
	count   uint64
	base    uint64 // of the first publish
}

// take reads once and counts the replies in it.
func (a *acks) take() error {
	b, err := a.c.read()
	if err != nil {
		return err
	}
	if len(a.c.buf) > 0 {
		a.c.buf = append(a.c.buf, b...)
		b = a.c.buf
	}
	for {
		f, rest, _, ok, err := wire.NextFrame(b, wire.MaxFrameBytes)
		if err != nil {
			return err
		}
		if !ok {
			a.c.buf = append(a.c.buf[:0], b...)
			return nil
		}
		if err := a.add(f); err != nil {
			return err
		}
		b = rest
	}
}

func (a *acks) add(f wire.Frame) error {
	if err := failure(f); err != nil {
		return err
	}
	var m wire.PublishReply
	if err := m.Parse(f.Body, f.Flags); err != nil {
		return err
	}
	if a.count == 0 {
		a.base = m.Base
	}
	if f.Correlation != uint32(a.count) || m.Base != a.base+a.count*a.records {
		return fmt.Errorf("acknowledgement %d at offset %d: expected %d at %d",
			f.Correlation, m.Base, uint32(a.count), a.base+a.count*a.records)
	}
	a.count += 1 + uint64(m.Extra)
	return nil
}

// roundTrips sends frame n times, one in flight, and returns how long each took, sorted.
func roundTrips(c *fdConn, frame []byte, n int) ([]time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took := make([]time.Duration, 0, n)
	for i := range n + n/10 {
		start := time.Now()
		if err := c.write(frame); err != nil {
			return nil, err
		}
		f, err := c.frame()
		if err != nil {
			return nil, err
		}
		if i >= n/10 { // the first ones warm up
			took = append(took, time.Since(start))
		}
		if err := failure(f); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return took, nil
}

// percentile returns the p-th percentile of sorted durations in microseconds.
func percentile(sorted []time.Duration, p float64) float64 {
	i := min(len(sorted)-1, int(float64(len(sorted))*p/100))
	return float64(sorted[i]) / float64(time.Microsecond)
}

// fetchRate fetches a partition again and again, two requests in flight, and returns bytes of entries
// per second. Offsets must follow each other.
func fetchRate(s *session, maxBytes uint32, end uint64, d time.Duration) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := wire.Fetch{Handle: s.handle, MaxBytes: maxBytes, MinBytes: 1}
	var id uint32
	send := func() error {
		id++
		return s.write(request(wire.OpFetch, 0, id, m.Append))
	}
	var bytes, next uint64
	start := time.Now()
	if err := send(); err != nil {
		return 0, err
	}
	for time.Since(start) < d {
		f, err := s.frame()
		if err != nil {
			return 0, err
		}
		if err := failure(f); err != nil {
			return 0, err
		}
		var e wire.Entries
		if err := e.Parse(f.Body); err != nil {
			return 0, err
		}
		if err := checkEntries(e.Bytes, next); err != nil {
			return 0, err
		}
		if next = e.Next; next >= end {
			next = 0
		}
		m.From.Value = next
		if err := send(); err != nil {
			return 0, err
		}
		bytes += uint64(len(e.Bytes))
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}

// checkEntries checks that the first entry is the one asked for, and its payload whole.
func checkEntries(b []byte, offset uint64) error {
	e, _, err := wire.ViewEntry(b)
	if err != nil {
		return err
	}
	if e.BaseOffset > offset || e.NextOffset() <= offset || !wire.PayloadOK(e.Payload) {
		return fmt.Errorf("asked for offset %d, got [%d, %d)", offset, e.BaseOffset, e.NextOffset())
	}
	return nil
}
