package bench

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/wire"
)

// axes returns all axes, in the order of the report.
func axes() []axis {
	return []axis{
		{
			name: "partitions", what: "Publish to all partitions in turn, 128 B, level memory, with files", unit: "msg/s",
			sizes: []int{1, 10, 100, 1000, 10_000}, label: countLabel, run: overPartitions,
		},
		{
			name: "connections", what: "Publish on all connections in turn, 128 B, in memory", unit: "msg/s",
			sizes: []int{1, 10, 100, 1000, 10_000}, label: countLabel, run: overConnections,
		},
		{
			name: "subscribers", what: "Delivered to subscribers of one topic, 128 B, in memory", unit: "MB/s",
			sizes: []int{1, 10, 100, 1000}, label: countLabel, run: overSubscribers,
		},
		{
			name: "size", what: "Publish by size of a message, in memory", unit: "MB/s",
			sizes: []int{16, 128, 1 << 10, 16 << 10, 128 << 10, 1 << 20},
			label: bytesLabel, run: overSizes,
		},
		{
			name: "backlog", what: "Publish to a topic that holds so much, 128 B, level memory, with files", unit: "msg/s",
			sizes: []int{0, 1, 5, 20}, label: func(n int) string { return fmt.Sprintf("%d GB", n) }, grow: overBacklog,
		},
	}
}

func bytesLabel(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// scaleTopic is the name of the topic, or the prefix of the names of several.
const scaleTopic = "scale"

// overPartitions publishes to n partitions, in topics of up to 1,000 partitions each.
func overPartitions(c *ScaleConfig, n int) (point, error) {
	each := min(n, 1000)
	p, err := startDiskBroker(c.config(), "--durability", "memory", "--default-topic-partitions", fmt.Sprint(each), "--retention-bytes", "64MiB")
	return withPoint(p, err, func(p *process) (point, error) {
		s, err := login(p.addr, fmt.Sprint(scaleTopic, 0))
		if err != nil {
			return point{}, err
		}
		defer s.close()
		var frames [][]byte
		for t := range n / each {
			handle, err := s.resolve(fmt.Sprint(scaleTopic, t))
			if err != nil {
				return point{}, err
			}
			for i := range each {
				frames = append(frames, publishFrame(handle, uint16(i), wire.LevelMemory, 128, 1))
			}
		}
		return c.inTurn([]*fdConn{s.fdConn}, frames, s.awaitDisk)
	})
}

// overConnections publishes on n connections.
func overConnections(c *ScaleConfig, n int) (point, error) {
	if err := allowFiles(n + 200); err != nil {
		return point{}, err
	}
	p, err := startBroker(c.config(), "", "--retention-bytes", "64MiB")
	return withPoint(p, err, func(p *process) (point, error) {
		conns := make([]*fdConn, 0, n)
		defer func() {
			for _, conn := range conns {
				conn.close()
			}
		}()
		for range n {
			s, err := login(p.addr, scaleTopic)
			if err != nil {
				return point{}, err
			}
			s.shrink()
			conns = append(conns, s.fdConn)
		}
		return c.inTurn(conns, [][]byte{frameOf(128, 1)}, noSettle)
	})
}

// overSubscribers delivers to n subscribers. The latency is the time until the last of them has a message.
func overSubscribers(c *ScaleConfig, n int) (point, error) {
	if err := allowFiles(n + 200); err != nil {
		return point{}, err
	}
	p, err := startBroker(c.config(), "", "--retention-bytes", "64MiB")
	return withPoint(p, err, func(p *process) (point, error) {
		rate, err := pushRate(p.addr, n, c.Duration)
		if err != nil {
			return point{}, err
		}
		took, err := deliveries(p.addr, n, min(c.RoundTrips, 200_000/n))
		return point{rate, percentile(took, 99)}, err
	})
}

// deliveries publishes one message after the other to n subscribers. It returns how long each took until
// the last subscriber had it, sorted.
func deliveries(addr string, n, samples int) ([]time.Duration, error) {
	pub, err := login(addr, "deliveries")
	if err != nil {
		return nil, err
	}
	defer pub.close()
	subs := make([]*session, 0, n)
	defer func() {
		for _, s := range subs {
			s.close()
		}
	}()
	for range n {
		s, err := login(addr, "deliveries")
		if err != nil {
			return nil, err
		}
		s.shrink()
		subs = append(subs, s)
		m := wire.Subscribe{Handle: s.handle, From: wire.Position{Kind: wire.PositionEnd}, Credit: 1 << 30}
		if _, err := s.ask(request(wire.OpSubscribe, 0, 9, m.Append)); err != nil {
			return nil, err
		}
	}
	frame := publishFrame(pub.handle, 0, wire.LevelDefault, pushSize, 1)
	took := make([]time.Duration, 0, samples)
	for range samples {
		start := time.Now()
		if _, err := pub.ask(frame); err != nil {
			return nil, err
		}
		for _, s := range subs {
			f, err := s.frame()
			if err == nil {
				err = failure(f)
			}
			if err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

// overSizes publishes values of size bytes, or of maxValue bytes if that is less.
func overSizes(c *ScaleConfig, size int) (point, error) {
	p, err := startBroker(c.config(), "", "--retention-bytes", "64MiB")
	return withPoint(p, err, func(p *process) (point, error) {
		s, err := login(p.addr, scaleTopic)
		if err != nil {
			return point{}, err
		}
		defer s.close()
		value := min(size, maxValue)
		frame := publishFrame(s.handle, 0, wire.LevelMemory, value, 1)
		got, err := c.inTurn([]*fdConn{s.fdConn}, [][]byte{frame}, noSettle)
		got.rate *= float64(value) / 1e6
		return got, err
	})
}

// maxValue is about the largest value, in bytes, whose record is within the broker's limit.
const maxValue = wire.DefaultMaxRecordBytes - 64

// overBacklog publishes to a topic that grows to each of the sizes, in GB.
func overBacklog(c *ScaleConfig, sizes []int, each func(i int, p point)) error {
	p, err := startDiskBroker(c.config(), "--durability", "memory")
	if err != nil {
		return err
	}
	return errors.Join(c.growBacklog(p, sizes, each), p.kill())
}

func (c *ScaleConfig) growBacklog(p *process, sizes []int, each func(i int, p point)) error {
	s, err := login(p.addr, scaleTopic)
	if err != nil {
		return err
	}
	defer s.close()
	frame := publishFrame(s.handle, 0, wire.LevelMemory, 128, 1)
	held := 0
	for i, size := range sizes {
		if _, err := s.fillTopic(int64(size*1e9-held), backlogRecords); err != nil {
			return err
		}
		held = size * 1e9
		for range c.Rounds {
			got, err := c.inTurn([]*fdConn{s.fdConn}, [][]byte{frame}, s.awaitDisk)
			if err == nil {
				err = s.awaitDisk()
			}
			if err != nil {
				return err
			}
			each(i, got)
		}
	}
	return nil
}

// awaitDisk waits until everything that was published is on disk, so that the next measurement does not
// pay for the previous one.
func (s *session) awaitDisk() error {
	_, err := s.ask(publishFrame(s.handle, 0, wire.LevelDisk, 1, 1))
	return err
}

// noSettle is the settle function of measurements that have nothing to wait for.
func noSettle() error { return nil }

// config returns what the functions that start processes need.
func (c *ScaleConfig) config() *Config { return &Config{Program: c.Program, Dir: c.Dir, ctx: c.ctx} }

// withPoint is withProcess for a function that returns a point.
func withPoint(p *process, err error, f func(p *process) (point, error)) (got point, _ error) {
	_, err = withProcess(p, err, func(p *process) (float64, error) {
		got, err = f(p)
		return 0, err
	})
	return got, err
}

// shrink replaces the large read buffer of a connection that is one of many.
func (c *fdConn) shrink() { c.in = make([]byte, 4<<10) }

// resolve returns the handle of a topic, which it creates if necessary.
func (s *session) resolve(topic string) (uint16, error) {
	m := wire.Resolve{Topic: topic}
	f, err := s.ask(request(wire.OpResolve, wire.FlagCreate, 2, m.Append))
	if err != nil {
		return 0, err
	}
	var reply wire.ResolveReply
	err = reply.Parse(f.Body)
	return reply.Handle, err
}

// allowFiles fails unless this process may open n files. It does not raise the limit: the Go runtime has
// raised the soft limit to the hard limit already.
func allowFiles(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur < uint64(n) {
		return fmt.Errorf("%d open files are needed and %d are allowed: raise the hard limit (ulimit -Hn)", n, limit.Cur)
	}
	return nil
}
