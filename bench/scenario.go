package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// scenario measures one figure of our broker and, unless floor is nil, of the floor to compare it with.
type scenario struct {
	Name   string
	Unit   string
	Target string  // the goal as text, for the report
	Goal   float64 // bound of the ratio ours / floor, or of our figure when there is no floor
	Less   bool    // Goal is an upper bound; otherwise it is a lower bound
	Full   bool    // takes long: runs only with Config.Full
	floor  func(c *Config) (float64, error)
	ours   func(c *Config) (float64, error)
	finish func() error // cleans up after the last round; nil when nothing is kept between rounds
}

// withProcess calls f with p, then kills p and removes its directory. It takes the results of a start
// function as they are: when err is not nil, it returns that and does nothing.
func withProcess(p *process, err error, f func(p *process) (float64, error)) (float64, error) {
	if err != nil {
		return 0, err
	}
	v, err := f(p)
	return v, errors.Join(err, p.kill())
}

// memoryBroker runs f against a broker in memory that retains 64 MiB of each topic.
func memoryBroker(c *Config, f func(p *process) (float64, error)) (float64, error) {
	p, err := startBroker(c, "", "--retention-bytes", "64MiB")
	return withProcess(p, err, f)
}

// onSession returns a function that calls f with a session of its own.
func onSession(f func(s *session) (float64, error)) func(p *process) (float64, error) {
	return func(p *process) (float64, error) {
		s, err := login(p.addr, "bench")
		if err != nil {
			return 0, err
		}
		defer s.close()
		return f(s)
	}
}

// onFloor calls f with a connection to a floor of the given kind.
func onFloor(c *Config, kind string, size int, f func(conn *fdConn) (float64, error)) (float64, error) {
	p, err := startFloor(c, kind, size)
	return withProcess(p, err, func(p *process) (float64, error) {
		conn, err := dialFD(p.addr)
		if err != nil {
			return 0, err
		}
		defer conn.close()
		return f(conn)
	})
}

// frameOf returns a publish frame of count records of size bytes each, for the topic with handle 0: the
// first one that a connection resolves.
func frameOf(size, count int) []byte { return publishFrame(0, 0, wire.LevelDefault, size, count) }

// publishScenario compares acknowledged publishes of count records of size bytes each, in memory, with
// a sink that acknowledges the same frames.
func publishScenario(size, count int, goal float64) scenario {
	frame := frameOf(size, count)
	bytes := float64(size*count) / 1e6
	return scenario{
		Name: fmt.Sprintf("publish acked, memory, %d B x %d", size, count), Unit: "MB/s",
		Target: fmt.Sprintf(">= %.1f x raw sink", goal), Goal: goal,
		floor: func(c *Config) (float64, error) {
			return onFloor(c, "sink", len(frame), func(conn *fdConn) (float64, error) {
				rate, err := publishRate(conn, frame, 1, c.Duration)
				return rate * bytes, err
			})
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, onSession(func(s *session) (float64, error) {
				rate, err := publishRate(s.fdConn, frame, count, c.Duration)
				return rate * bytes, err
			}))
		},
	}
}

// clientScenario compares the Go client, which gets one message per call, with the raw driver, which
// sends batches of count messages. Both publish to our broker.
func clientScenario(count int) scenario {
	return scenario{
		Name: fmt.Sprintf("publish acked through the Go client, 128 B, against x %d", count), Unit: "M msg/s",
		Target: fmt.Sprintf(">= 0.5 x raw driver, 128 B x %d", count), Goal: 0.5,
		floor: func(c *Config) (float64, error) {
			return memoryBroker(c, onSession(func(s *session) (float64, error) {
				rate, err := publishRate(s.fdConn, frameOf(128, count), count, c.Duration)
				return rate * float64(count) / 1e6, err
			}))
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				r, err := Publish(c.ctx, Load{Server: p.addr, Topic: "bench", Size: 128, Duration: c.Duration, Clients: 1, Partitions: 1})
				return r.MessagesPerSecond / 1e6, err
			})
		},
	}
}

// roundTripScenario compares the p-th percentile of a small publish, one in flight, with that of an echo
// of the same frame.
func roundTripScenario(p float64, goal float64) scenario {
	frame := frameOf(64, 1)
	run := func(c *Config, conn *fdConn) (float64, error) { return roundTrip(conn, frame, c.RoundTrips, p) }
	return scenario{
		Name: fmt.Sprintf("publish round trip p%g, 64 B", p), Unit: "us",
		Target: fmt.Sprintf("<= %.2f x gnet echo", goal), Goal: goal, Less: true,
		floor: func(c *Config) (float64, error) {
			return onFloor(c, "gnet-echo", 0, func(conn *fdConn) (float64, error) { return run(c, conn) })
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, onSession(func(s *session) (float64, error) { return run(c, s.fdConn) }))
		},
	}
}

// diskWrite is the size of the records and bare writes of the disk scenarios, in bytes.
const diskWrite = 4 << 10

// syncScenario compares a publish at level disk, one in flight, with a bare write and fdatasync.
func syncScenario() scenario {
	return scenario{
		Name: "disk-level publish p50, 4 KiB, one in flight", Unit: "us", Target: "<= 1.8 x bare pwrite+fdatasync", Goal: 1.8, Less: true,
		floor: func(c *Config) (float64, error) {
			took, err := bareSync(c.Dir, diskWrite, c.Syncs)
			if err != nil {
				return 0, err
			}
			return percentile(took, 50), nil
		},
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c)
			return withProcess(p, err, onSession(func(s *session) (float64, error) {
				return roundTrip(s.fdConn, publishFrame(0, 0, wire.LevelDisk, diskWrite, 1), c.Syncs, 50)
			}))
		},
	}
}

// diskWriters is how many durable publishes or bare writes are in flight.
const diskWriters = 256

// durableRate returns the acknowledgements per second of publishes at level disk to the given number of
// partitions in turn, with diskWriters frames of one 4 KiB record in flight.
func durableRate(c *Config, partitions int) (float64, error) {
	p, err := startDiskBroker(c, "--default-topic-partitions", fmt.Sprint(partitions))
	return withProcess(p, err, onSession(func(s *session) (float64, error) {
		frames := make([][]byte, partitions)
		for i := range frames {
			frames[i] = publishFrame(0, uint16(i), wire.LevelDisk, diskWrite, 1)
		}
		return windowRate(s, frames, diskWriters, c.Duration)
	}))
}

// windowRate publishes frames in turn for d, at most window of them in flight, and returns the
// acknowledgements per second.
func windowRate(s *session, frames [][]byte, window int, d time.Duration) (float64, error) {
	sent, acked := 0, 0
	out := make([]byte, 0, window*len(frames[0]))
	start := time.Now()
	for time.Since(start) < d || acked < sent {
		out = out[:0]
		for sent-acked < window && time.Since(start) < d {
			f := frames[sent%len(frames)]
			out = append(out, f...)
			// The broker answers a run of consecutive ids with one reply. Ids with gaps get one reply each.
			copy(out[len(out)-len(f)+6:], []byte{byte(sent << 1), byte(sent >> 7), byte(sent >> 15), byte(sent >> 23)})
			sent++
		}
		if err := s.write(out); err != nil {
			return 0, err
		}
		for first := true; first || s.buffered(); first = false {
			f, err := s.frame()
			if err != nil {
				return 0, err
			}
			if err := failure(f); err != nil {
				return 0, err
			}
			acked++
		}
	}
	return float64(acked) / time.Since(start).Seconds(), nil
}

func groupCommitScenario() scenario {
	return scenario{
		Name: "disk-level publish, 256 writers of 4 KiB", Unit: "writes/s", Target: ">= 0.7 x bare group commit", Goal: 0.7,
		floor: func(c *Config) (float64, error) { return bareGroupCommit(c.Dir, diskWriters, diskWrite, c.Duration) },
		ours:  func(c *Config) (float64, error) { return durableRate(c, 1) },
	}
}

func manyPartitionsScenario() scenario {
	return scenario{
		Name: "disk-level publish, 64 partitions against 1", Unit: "writes/s", Target: ">= 0.8 x one partition", Goal: 0.8,
		floor: func(c *Config) (float64, error) { return durableRate(c, 1) },
		ours:  func(c *Config) (float64, error) { return durableRate(c, 64) },
	}
}

// fetchBytes is the size of one fetch reply, in bytes.
const fetchBytes = 1 << 20

// hotBacklog is the backlog that is fetched from memory, in bytes: more than the processor's caches hold, and less than
// the broker's working set (docs/adr/0008), of which it always keeps 96 MiB.
const hotBacklog = 64 << 20

// fetchScenario compares fetching a backlog of the given number of bytes with a floor, source or
// cold-source, that sends replies of the same size. args are added to the broker's command line.
func fetchScenario(name, floor string, goal float64, backlog int, args ...string) scenario {
	return scenario{
		Name: name, Unit: "MB/s", Target: fmt.Sprintf(">= %.1f x raw %s", goal, floor), Goal: goal,
		floor: func(c *Config) (float64, error) {
			return onFloor(c, floor, fetchBytes, func(conn *fdConn) (float64, error) { return sourceRate(conn, c.Duration) })
		},
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c, args...)
			return withProcess(p, err, onSession(func(s *session) (float64, error) {
				end, err := s.fillTopic(int64(backlog), backlogRecords)
				if err != nil {
					return 0, err
				}
				rate, err := fetchRate(s, fetchBytes, end, c.Duration)
				return rate / 1e6, err
			}))
		},
	}
}

// backlogRecords is how many 1 KiB records of a backlog one publish frame holds: 64 KiB.
const backlogRecords = 64

// fillPause is how long fillTopic waits before it repeats a publish that the broker refused as busy.
const fillPause = 10 * time.Millisecond

// fillTopic publishes 1 KiB records at level disk, in frames of the given number of records. bytes is
// their total size, rounded down to whole frames. It returns how many records it published.
func (s *session) fillTopic(bytes int64, records int) (end uint64, err error) {
	const size = 1024
	frame := publishFrame(s.handle, 0, wire.LevelDisk, size, records)
	for total := uint64(bytes / int64(size*records) * int64(records)); end < total; end += uint64(records) {
		_, err := s.ask(frame)
		for errors.Is(err, wire.CodeBusy) { // the disk is behind; nothing was appended
			time.Sleep(fillPause)
			_, err = s.ask(frame)
		}
		if err != nil {
			return 0, err
		}
	}
	return end, nil
}

// fillPartitions publishes one record at level disk to each partition.
func (s *session) fillPartitions(partitions uint16) error {
	for i := range partitions {
		if _, err := s.ask(publishFrame(s.handle, i, wire.LevelDisk, 100, 1)); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request and returns the reply, which is valid until the next frame is read. A reply with
// an error is returned as that error.
func (s *session) ask(frame []byte) (wire.Frame, error) {
	if err := s.write(frame); err != nil {
		return wire.Frame{}, err
	}
	f, err := s.frame()
	if err == nil {
		err = failure(f)
	}
	return f, err
}

// sourceRate sends fetches to a source for d, two in flight, and returns the megabytes of reply bodies
// per second.
func sourceRate(c *fdConn, d time.Duration) (float64, error) {
	m := wire.Fetch{}
	ask := request(wire.OpFetch, 0, 1, m.Append)
	if err := c.write(ask); err != nil {
		return 0, err
	}
	bytes := 0
	start := time.Now()
	for time.Since(start) < d {
		if err := c.write(ask); err != nil {
			return 0, err
		}
		f, err := c.frame()
		if err != nil {
			return 0, err
		}
		bytes += len(f.Body)
	}
	return float64(bytes) / time.Since(start).Seconds() / 1e6, nil
}

// pushSize is the size of the value of a pushed message, in bytes.
const pushSize = 128

// pushAhead is how many records the publisher may be ahead of the slowest subscriber. It is less than
// what the topic retains, so that no subscriber misses records.
const pushAhead = 150_000

// pushScenario measures the bytes of values delivered to all subscribers together, while one publisher
// publishes as fast as they can receive.
func pushScenario(subscribers int, goal float64) scenario {
	return scenario{
		Name: fmt.Sprintf("push to %d subscribers, 128 B", subscribers), Unit: "MB/s", Target: fmt.Sprintf(">= %.0f MB/s", goal), Goal: goal,
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) { return pushRate(p.addr, subscribers, c.Duration) })
		},
	}
}

// pushRate returns the megabytes of values per second that are delivered to all subscribers together.
func pushRate(addr string, subscribers int, d time.Duration) (float64, error) {
	pub, err := login(addr, "bench")
	if err != nil {
		return 0, err
	}
	defer pub.close()
	delivered := make([]atomic.Uint64, subscribers)
	errs := make(chan error, subscribers)
	stop := make(chan struct{})
	for i := range subscribers {
		s, err := login(addr, "bench")
		if err != nil {
			return 0, err
		}
		m := wire.Subscribe{Handle: s.handle, From: wire.Position{Kind: wire.PositionEnd}, Credit: 1 << 30}
		if err := s.write(request(wire.OpSubscribe, 0, 9, m.Append)); err != nil {
			return 0, err
		}
		if _, err := s.frame(); err != nil {
			return 0, err
		}
		go func() { errs <- s.count(&delivered[i], stop) }()
	}
	start := time.Now()
	_, err = publishPaced(pub.fdConn, frameOf(pushSize, 1), 1, d, func(sent uint64) bool {
		for i := range delivered {
			if sent > delivered[i].Load()+pushAhead {
				return false
			}
		}
		return true
	})
	bytes := uint64(0)
	for i := range delivered {
		bytes += delivered[i].Load() * pushSize
	}
	took := time.Since(start)
	close(stop)
	if err == nil {
		_, err = roundTrips(pub.fdConn, frameOf(pushSize, 1), 1) // one more delivery, after which each subscriber sees that stop is closed
	}
	for range subscribers {
		err = errors.Join(err, <-errs)
	}
	return float64(bytes) / took.Seconds() / 1e6, err
}

// count counts delivered records until the first delivery after stop is closed, then closes the
// session. It fails when a delivery does not begin at the offset after the previous one.
func (s *session) count(delivered *atomic.Uint64, stop <-chan struct{}) error {
	defer s.close()
	var next uint64
	credit := 0
	for {
		f, err := s.frame()
		if err != nil {
			return err
		}
		if err := failure(f); err != nil {
			return err
		}
		var e wire.Entries
		if err := e.Parse(f.Body); err != nil {
			return err
		}
		first, _, err := wire.ViewEntry(e.Bytes)
		if err != nil {
			return err
		}
		if next != 0 && first.BaseOffset != next {
			return fmt.Errorf("delivered offset %d, expected %d", first.BaseOffset, next)
		}
		delivered.Add(e.Next - first.BaseOffset)
		next = e.Next
		if credit += len(e.Bytes); credit > 1<<28 {
			if err := s.write(request(wire.OpCredit, 0, 0, wire.Credit{Subscription: 9, Bytes: uint32(credit)}.Append)); err != nil {
				return err
			}
			credit = 0
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

const mebibyte = 1 << 20

func idleScenario() scenario {
	return scenario{
		Name: "memory, idle broker", Unit: "MB", Target: "<= 30 MB", Goal: 30, Less: true,
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c)
			return withProcess(p, err, func(p *process) (float64, error) { return p.residentBytes() / mebibyte, nil })
		},
	}
}

func idleConnectionsScenario() scenario {
	const n = 2000
	return scenario{
		Name: "memory, per idle connection", Unit: "KB", Target: "<= 2 KB", Goal: 2, Less: true,
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				var conns []net.Conn
				defer func() {
					for _, conn := range conns {
						_ = conn.Close()
					}
				}()
				before := 0.0
				for i := range n + 200 {
					conn, err := net.Dial("tcp", p.addr)
					if err != nil {
						return 0, err
					}
					conns = append(conns, conn)
					if _, err := conn.Read(make([]byte, 1024)); err != nil {
						return 0, err
					}
					if i == 199 { // the first 200 connections pay for what all of them share
						before = p.residentBytes()
					}
				}
				return (p.residentBytes() - before) / 1024 / n, nil
			})
		},
	}
}

func idlePartitionsScenario() scenario {
	return scenario{
		Name: "memory, 1,000 idle partitions with a record each", Unit: "MB", Target: "<= 100 MB", Goal: 100, Less: true,
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c, "--default-topic-partitions", "1000")
			return withProcess(p, err, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				if err := s.fillPartitions(1000); err != nil {
					return 0, err
				}
				return p.residentBytes() / mebibyte, nil
			})
		},
	}
}

func startScenario() scenario {
	return scenario{
		Name: "start to first greeted connection", Unit: "ms", Target: "<= 50 ms", Goal: 50, Less: true,
		ours: func(c *Config) (float64, error) {
			start := time.Now()
			p, err := startDiskBroker(c)
			return withProcess(p, err, func(p *process) (float64, error) { return greetedAfter(p, start) })
		},
	}
}

// greetedAfter connects and returns the milliseconds from start to the first byte of the greeting.
func greetedAfter(p *process, start time.Time) (float64, error) {
	c, err := dialFD(p.addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.fill(1); err != nil {
		return 0, err
	}
	return float64(time.Since(start).Microseconds()) / 1000, nil
}

// restartScenario measures how many milliseconds a broker takes from its start until it greets a
// connection. It opens the directory of a previous broker, which fill filled and end ended.
func restartScenario(name string, goal float64, end func(p *process) error, fill func(s *session) error, args ...string) scenario {
	return scenario{
		Name: name, Unit: "ms", Target: fmt.Sprintf("<= %.0f ms", goal), Goal: goal, Less: true,
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c, args...)
			if err != nil {
				return 0, err
			}
			dir := p.dir
			defer os.RemoveAll(dir)
			s, err := login(p.addr, "bench")
			if err == nil {
				err = fill(s)
				s.close()
			}
			p.dir = "" // keep the directory for the next process
			if err = errors.Join(err, end(p)); err != nil {
				return 0, err
			}
			start := time.Now()
			p, err = startBroker(c, dir, args...)
			return withProcess(p, err, func(p *process) (float64, error) { return greetedAfter(p, start) })
		},
	}
}

// restartScenarios restart brokers with little data; see reopenScenarios for those with much.
func restartScenarios() []scenario {
	const partitions = 1000
	few := func(s *session) error {
		_, err := s.fillTopic(1<<20, backlogRecords)
		return err
	}
	many := func(s *session) error { return s.fillPartitions(partitions) }
	return []scenario{
		restartScenario("start after kill -9, 1 MiB of messages", 50, (*process).kill, few),
		restartScenario("start after kill -9, 1,000 partitions with a record each", 50, (*process).kill, many,
			"--default-topic-partitions", strconv.Itoa(partitions)),
	}
}

// scenarios returns all scenarios, in the order of the report.
func scenarios() []scenario {
	list := []scenario{
		publishScenario(128, 100, 0.7),
		publishScenario(1024, 10, 0.7),
		publishScenario(16, 1, 0.4),
		clientScenario(1),
		clientScenario(100),
		roundTripScenario(50, 1.15),
		roundTripScenario(99, 1.5),
		syncScenario(),
		groupCommitScenario(),
		manyPartitionsScenario(),
		fetchScenario("fetch from memory, 1 MiB replies", "source", 0.7, hotBacklog, "--memory-bytes", "512MiB"),
		fetchScenario("fetch 1 MiB replies, against a source of as much memory", "cold-source", 0.7, hotBacklog, "--memory-bytes", "512MiB"),
		fetchScenario("fetch from the page cache, 1 MiB replies", "source", 0.4, 256<<20, "--memory-bytes", "32MiB"),
		pushScenario(1, 350),
		pushScenario(10, 1000),
		pushScenario(100, 1500),
		groupScenario(),
		rebalanceScenario(),
		queueScenario(),
		orderedQueueScenario(),
		delayedScenario(),
		lateScenario(),
		inFlightScenario(),
		idleScenario(),
		idleConnectionsScenario(),
		idlePartitionsScenario(),
		startScenario(),
	}
	return slices.Concat(list, restartScenarios(), reopenScenarios())
}
