package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// burst is how many publish frames are written at once, at most 64: collect keeps one bit for each.
const burst = 64

// inTurn measures publishing with all connections and all frames in turn: first the rate of bursts, two
// of them in flight, then, after settle, the latency with one frame in flight. A publish that the broker
// refuses as busy does not count; any other failure is an error.
func (c *ScaleConfig) inTurn(conns []*fdConn, frames [][]byte, settle func() error) (point, error) {
	t := turns{conns: conns, frames: frames}
	if err := t.warmUp(); err != nil { // what the broker creates at the first use is not measured
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

// turns sends frames over connections. It takes both in turn.
type turns struct {
	conns  []*fdConn
	frames [][]byte
	conn   int    // how many bursts were sent; the next connection modulo their number
	frame  int    // how many frames were sent; the next frame modulo their number
	out    []byte // reused buffer of send
}

// warmUp uses every frame and every connection at least once.
func (t *turns) warmUp() error {
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

// send writes up to n frames to the next connection, and returns it and how many it wrote: large frames
// go in smaller bursts.
func (t *turns) send(n int) (*fdConn, int, error) {
	c := t.conns[t.conn%len(t.conns)]
	t.conn++
	t.out = t.out[:0]
	sent := 0
	for ; sent < n && len(t.out) < windowBytes/4; sent++ {
		at := len(t.out)
		t.out = append(t.out, t.frames[t.frame%len(t.frames)]...)
		t.frame++
		// The broker answers a run of consecutive ids with one reply. Ids with gaps get one reply each.
		binary.LittleEndian.PutUint32(t.out[at+6:], uint32(2*sent))
	}
	return c, sent, c.write(t.out)
}

// busyPause is how long a publisher pauses when the broker refused publishes as busy.
const busyPause = time.Millisecond

// collect reads the n replies to a burst and returns how many of its publishes were acknowledged. The
// broker refuses publishes as busy while its disk is behind and its memory is full; collect pauses then.
// Replies for different partitions come in any order.
func collect(c *fdConn, n int) (acked int, err error) {
	var seen uint64 // bit i is set when publish i of the burst was answered
	for range n {
		f, err := c.frame()
		if err != nil {
			return acked, err
		}
		bit := uint64(1) << (f.Correlation / 2)
		if f.Correlation >= 2*burst || seen&bit != 0 {
			return acked, fmt.Errorf("a reply to request %d, which is not in flight", f.Correlation)
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

// rate sends bursts for d, two in flight, and returns the acknowledged publishes per second.
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

// singles sends n frames, one in flight, and returns how long each took, sorted.
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
