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
	// windowBytes is how many bytes of frames may be unanswered: enough to keep a loopback connection busy.
	windowBytes = 1 << 20
	// chunkBytes is how many bytes of frames the driver writes at once.
	chunkBytes = 64 << 10
)

// publishRate publishes the same frame, which holds the given number of records, for d and returns the
// acknowledged frames per second. It fails unless every frame is acknowledged, in order and at
// consecutive offsets.
func publishRate(c *fdConn, frame []byte, records int, d time.Duration) (float64, error) {
	return publishPaced(c, frame, records, d, func(uint64) bool { return true })
}

// paceInterval is the pause after which a publisher that is too far ahead checks again.
const paceInterval = 50 * time.Microsecond

// publishPaced is publishRate, but pauses while may returns false; sent is how many frames were sent.
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

// acks counts and checks the publish replies of one partition.
type acks struct {
	c       *fdConn
	records uint64 // of each frame
	count   uint64 // frames that were acknowledged
	base    uint64 // offset of the first frame
}

// take reads once and counts the replies that this completes.
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

// add counts the frames that one reply acknowledges.
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
		return fmt.Errorf("acknowledgement of request %d at offset %d: expected request %d at offset %d",
			f.Correlation, m.Base, uint32(a.count), a.base+a.count*a.records)
	}
	a.count += 1 + uint64(m.Extra)
	return nil
}

// roundTrips sends frame n times, one in flight, and returns how long each took, sorted. It first sends a
// tenth as many to warm up.
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
		if i >= n/10 {
			took = append(took, time.Since(start))
		}
		if err := failure(f); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return took, nil
}

// roundTrip returns the p-th percentile of n round trips, in microseconds.
func roundTrip(c *fdConn, frame []byte, n int, p float64) (float64, error) {
	took, err := roundTrips(c, frame, n)
	if err != nil {
		return 0, err
	}
	return percentile(took, p), nil
}

// percentile returns the p-th percentile of sorted durations in microseconds.
func percentile(sorted []time.Duration, p float64) float64 {
	i := min(len(sorted)-1, int(float64(len(sorted))*p/100))
	return float64(sorted[i]) / float64(time.Microsecond)
}

// fetchRate fetches partition 0 from its first offset to end, again and again for d, and returns the bytes
// of entries per second. Each reply must begin at the offset that was asked for.
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

// checkEntries checks that the first entry of b contains offset, and the checksum of its payload.
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
