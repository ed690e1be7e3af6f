package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// burst is how many publishes are written at once when connections or partitions take turns.
const burst = 64

// inTurn publishes bursts of frames over all connections and all frames in turn, two bursts under way,
// and then, after settle, one frame after the other. Every publish must be acknowledged.
func (c *ScaleConfig) inTurn(conns []*fdConn, frames [][]byte, settle func() error) (point, error) {
	t := turns{conns: conns, frames: frames}
	if err := t.each(); err != nil { // what is made at the first use is not measured
		return point{}, err
	}
	rate, err := t.rate(c.Duration)
	if err != nil {
		return point{}, err
	}
	if err := settle(); err != nil {
		return point{}, err
	}
	took, err := t.singles(c.RoundTrips)
	return point{rate, percentile(took, 99)}, err
}

// turns sends frames over connections, each in turn.
type turns struct {
	conns  []*fdConn
	frames [][]byte
	conn   int // the next one
	frame  int
	out    []byte
}

// each uses every frame and every connection once.
func (t *turns) each() error {
	for range max(len(t.conns), (len(t.frames)+burst-1)/burst) {
		c, n, err := t.send(burst)
		if err != nil {
			return err
		}
		if _, err := collect(c, n); err != nil {
			return err
		}
	}
	return nil
}

// send writes up to n frames to the next connection; large frames come in smaller bursts.
func (t *turns) send(n int) (*fdConn, int, error) {
	c := t.conns[t.conn%len(t.conns)]
	t.conn++
	t.out = t.out[:0]
	sent := 0
	for ; sent < n && len(t.out) < windowBytes/4; sent++ {
		at := len(t.out)
		t.out = append(t.out, t.frames[t.frame%len(t.frames)]...)
		t.frame++
		// Ids that do not follow each other get a reply each.
		binary.LittleEndian.PutUint32(t.out[at+6:], uint32(2*sent))
	}
	return c, sent, c.write(t.out)
}

// busyPause is how long a publisher rests that is faster than the disk.
const busyPause = time.Millisecond

// collect reads the answers to a burst and returns how many were acknowledged: a broker whose disk is
// behind takes no more than its memory holds. Answers of different partitions come in any order.
func collect(c *fdConn, n int) (acked int, err error) {
	var seen uint64 // a bit for each of a burst
	for range n {
		f, err := c.frame()
		if err != nil {
			return acked, err
		}
		bit := uint64(1) << (f.Correlation / 2)
		if f.Correlation >= 2*burst || seen&bit != 0 {
			return acked, fmt.Errorf("acknowledgement of %d, which is not under way", f.Correlation)
		}
		seen |= bit
		switch err := failure(f); {
		case err == nil:
			acked++
		case !errors.Is(err, wire.CodeBusy):
			return acked, err
		}
	}
	if acked < n {
		time.Sleep(busyPause)
	}
	return acked, nil
}

func (t *turns) rate(d time.Duration) (float64, error) {
	type sent struct {
		c *fdConn
		n int
	}
	var waiting []sent
	acked := 0
	take := func() error {
		s := waiting[0]
		waiting = append(waiting[:0], waiting[1:]...)
		n, err := collect(s.c, s.n)
		acked += n
		return err
	}
	start := time.Now()
	for time.Since(start) < d {
		c, n, err := t.send(burst)
		if err != nil {
			return 0, err
		}
		if waiting = append(waiting, sent{c, n}); len(waiting) < 2 {
			continue
		}
		if err := take(); err != nil {
			return 0, err
		}
	}
	for len(waiting) > 0 {
		if err := take(); err != nil {
			return 0, err
		}
	}
	return float64(acked) / time.Since(start).Seconds(), nil
}

// singles returns how long publishes take one after the other, sorted.
func (t *turns) singles(n int) ([]time.Duration, error) {
	took := make([]time.Duration, 0, n)
	for range n {
		start := time.Now()
		c, sent, err := t.send(1)
		if err != nil {
			return nil, err
		}
		if _, err := collect(c, sent); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}
