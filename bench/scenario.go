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

// scenario is one figure: ours, its floor, and the ratio it should reach.
type scenario struct {
	Name   string
	Unit   string
	Target string  // for a person
	Goal   float64 // bound of the ratio, or of the figure itself when there is no floor
	Less   bool    // the figure must stay below the goal
	Full   bool    // takes long: only with Config.Full
	floor  func(c *Config) (float64, error)
	ours   func(c *Config) (float64, error)
	finish func() error // after the last round; nil when nothing is kept between rounds
}

// with starts a server, hands its address to f and stops it.
func with(p *process, err error, f func(p *process) (float64, error)) (float64, error) {
	if err != nil {
		return 0, err
	}
	v, err := f(p)
	return v, errors.Join(err, p.stop())
}

// memoryBroker runs f against a broker in memory that keeps little.
func memoryBroker(c *Config, f func(p *process) (float64, error)) (float64, error) {
	p, err := startBroker(c, "", "--retention-bytes", "64MiB")
	return with(p, err, f)
}

// frameOf is a publish frame of a shape, with the handle that the first topic gets.
func frameOf(size, count int) []byte { return publishFrame(0, 0, wire.LevelDefault, size, count) }

// publishScenario compares acknowledged publishes in memory with a sink that takes the same frames.
func publishScenario(size, count int, goal float64) scenario {
	frame := frameOf(size, count)
	bytes := float64(size*count) / 1e6
	return scenario{
		Name: fmt.Sprintf("publish acked, memory, %d B x %d", size, count), Unit: "MB/s",
		Target: fmt.Sprintf(">= %.1f x raw sink", goal), Goal: goal,
		floor: func(c *Config) (float64, error) {
			p, err := startFloor(c, "sink", len(frame))
			return with(p, err, func(p *process) (float64, error) {
				conn, err := dialFD(p.addr)
				if err != nil {
					return 0, err
				}
				defer conn.close()
				rate, err := publishRate(conn, frame, 1, c.Duration)
				return rate * bytes, err
			})
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				rate, err := publishRate(s.fdConn, frame, count, c.Duration)
				return rate * bytes, err
			})
		},
	}
}

// clientScenario compares the Go client, one message a call, with the raw driver and its batches of
// count, both against our broker.
func clientScenario(count int) scenario {
	return scenario{
		Name: fmt.Sprintf("publish acked through the Go client, 128 B, against x %d", count), Unit: "M msg/s",
		Target: fmt.Sprintf(">= 0.5 x raw driver, 128 B x %d", count), Goal: 0.5,
		floor: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				rate, err := publishRate(s.fdConn, frameOf(128, count), count, c.Duration)
				return rate * float64(count) / 1e6, err
			})
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				r, err := Publish(c.ctx, Load{Server: p.addr, Topic: "bench", Size: 128, Duration: c.Duration, Clients: 1, Partitions: 1})
				return r.MessagesPerSecond / 1e6, err
			})
		},
	}
}

// roundTripScenario compares a small publish, one in flight, with an echo of the same size.
func roundTripScenario(p float64, goal float64) scenario {
	frame := frameOf(64, 1)
	run := func(c *Config, conn *fdConn) (float64, error) {
		took, err := roundTrips(conn, frame, c.RoundTrips)
		if err != nil {
			return 0, err
		}
		return percentile(took, p), nil
	}
	return scenario{
		Name: fmt.Sprintf("publish round trip p%g, 64 B", p), Unit: "us",
		Target: fmt.Sprintf("<= %.2f x gnet echo", goal), Goal: goal, Less: true,
		floor: func(c *Config) (float64, error) {
			p, err := startFloor(c, "gnet-echo", 0)
			return with(p, err, func(p *process) (float64, error) {
				conn, err := dialFD(p.addr)
				if err != nil {
					return 0, err
				}
				defer conn.close()
				return run(c, conn)
			})
		},
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				return run(c, s.fdConn)
			})
		},
	}
}

const diskWrite = 4 << 10

// syncScenario compares a durable publish, one in flight, with a write and an fdatasync.
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
			return with(p, err, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				took, err := roundTrips(s.fdConn, publishFrame(0, 0, wire.LevelDisk, diskWrite, 1), c.Syncs)
				if err != nil {
					return 0, err
				}
				return percentile(took, 50), nil
			})
		},
	}
}

const diskWriters = 256

// durableRate keeps diskWriters publishes in flight, each its own 4 KiB frame, over partitions.
func durableRate(c *Config, partitions int) (float64, error) {
	p, err := startDiskBroker(c, "--default-topic-partitions", fmt.Sprint(partitions))
	return with(p, err, func(p *process) (float64, error) {
		s, err := login(p.addr, "bench")
		if err != nil {
			return 0, err
		}
		defer s.close()
		frames := make([][]byte, partitions)
		for i := range frames {
			frames[i] = publishFrame(0, uint16(i), wire.LevelDisk, diskWrite, 1)
		}
		return windowRate(s, frames, diskWriters, c.Duration)
	})
}

// windowRate publishes frames in turn with a window and returns acknowledgements per second.
func windowRate(s *session, frames [][]byte, window int, d time.Duration) (float64, error) {
	sent, acked := 0, 0
	out := make([]byte, 0, window*len(frames[0]))
	start := time.Now()
	for time.Since(start) < d || acked < sent {
		out = out[:0]
		for sent-acked < window && time.Since(start) < d {
			f := frames[sent%len(frames)]
			out = append(out, f...)
			// Ids that do not follow each other get a reply each.
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

// fetchBytes is the size of one fetch reply.
const fetchBytes = 1 << 20

// fetchScenario compares fetching a backlog with a source that sends as much with blocking calls.
func fetchScenario(name string, goal float64, backlog int, args ...string) scenario {
	return scenario{
		Name: name, Unit: "MB/s", Target: fmt.Sprintf(">= %.1f x raw source", goal), Goal: goal,
		floor: func(c *Config) (float64, error) {
			p, err := startFloor(c, "source", fetchBytes)
			return with(p, err, func(p *process) (float64, error) {
				conn, err := dialFD(p.addr)
				if err != nil {
					return 0, err
				}
				defer conn.close()
				return sourceRate(conn, c.Duration)
			})
		},
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c, args...)
			return with(p, err, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				end, err := s.fillTopic(backlog, backlogRecords)
				if err != nil {
					return 0, err
				}
				rate, err := fetchRate(s, fetchBytes, end, c.Duration)
				return rate / 1e6, err
			})
		},
	}
}

// backlogRecords is how many records of a backlog are published at once: 64 KiB.
const backlogRecords = 64

// fillPause is how long a publisher waits that is told to send again.
const fillPause = 10 * time.Millisecond

// fillTopic publishes a backlog of bytes, so many records at once, and returns its end.
func (s *session) fillTopic(bytes, records int) (end uint64, err error) {
	const size = 1024
	frame := publishFrame(s.handle, 0, wire.LevelDisk, size, records)
	for total := uint64(bytes / (size * records) * records); end < total; end += uint64(records) {
		err := s.publish(frame)
		for errors.Is(err, wire.CodeBusy) { // nothing was appended: the disk is behind
			time.Sleep(fillPause)
			err = s.publish(frame)
		}
		if err != nil {
			return 0, err
		}
	}
	return end, nil
}

// publish sends a frame and waits for its acknowledgement.
func (s *session) publish(frame []byte) error {
	if err := s.write(frame); err != nil {
		return err
	}
	f, err := s.frame()
	if err != nil {
		return err
	}
	return failure(f)
}

// sourceRate asks a source again and again, two requests in flight.
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

// pushSize is the payload of pushed messages.
const pushSize = 128

// pushAhead is how many records the publisher may be ahead of the slowest subscriber: less than the
// topic keeps.
const pushAhead = 150_000

// pushScenario measures what is delivered to subscribers while one publisher publishes as they can.
func pushScenario(subscribers int, goal float64) scenario {
	return scenario{
		Name: fmt.Sprintf("push to %d subscribers, 128 B", subscribers), Unit: "MB/s", Target: fmt.Sprintf(">= %.0f MB/s", goal), Goal: goal,
		ours: func(c *Config) (float64, error) {
			return memoryBroker(c, func(p *process) (float64, error) { return pushRate(p.addr, subscribers, c.Duration) })
		},
	}
}

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
		_, err = roundTrips(pub.fdConn, frameOf(pushSize, 1), 1) // wakes every subscriber once more
	}
	for range subscribers {
		err = errors.Join(err, <-errs)
	}
	return float64(bytes) / took.Seconds() / 1e6, err
}

// count counts delivered records until stop, and checks that offsets follow each other.
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

const mega = 1 << 20

func idleScenario() scenario {
	return scenario{
		Name: "memory, idle broker", Unit: "MB", Target: "<= 30 MB", Goal: 30, Less: true,
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c)
			return with(p, err, func(p *process) (float64, error) { return p.residentBytes() / mega, nil })
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
					if i == 199 { // the first ones pay for what all share
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
			return with(p, err, func(p *process) (float64, error) {
				s, err := login(p.addr, "bench")
				if err != nil {
					return 0, err
				}
				defer s.close()
				for i := range 1000 {
					if err = s.write(publishFrame(s.handle, uint16(i), wire.LevelDisk, 100, 1)); err != nil {
						return 0, err
					}
					f, err := s.frame()
					if err == nil {
						err = failure(f)
					}
					if err != nil {
						return 0, err
					}
				}
				return p.residentBytes() / mega, nil
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
			return with(p, err, func(p *process) (float64, error) { return sinceGreeted(p, start) })
		},
	}
}

// sinceGreeted connects and returns the milliseconds since start.
func sinceGreeted(p *process, start time.Time) (float64, error) {
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

// restartScenario measures how long a broker takes until it greets a connection on the directory that fill
// left, after end ended the one before.
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
			p.dir = "" // stays for the next process
			if err = errors.Join(err, end(p)); err != nil {
				return 0, err
			}
			start := time.Now()
			p, err = startBroker(c, dir, args...)
			return with(p, err, func(p *process) (float64, error) { return sinceGreeted(p, start) })
		},
	}
}

// restartScenarios are those with little data; the other ones take long.
func restartScenarios() []scenario {
	const partitions = 1000
	few := func(s *session) error {
		_, err := s.fillTopic(1<<20, backlogRecords)
		return err
	}
	many := func(s *session) error {
		for i := range uint16(partitions) {
			if err := s.publish(publishFrame(s.handle, i, wire.LevelDisk, 100, 1)); err != nil {
				return err
			}
		}
		return nil
	}
	return []scenario{
		restartScenario("start after kill -9, 1 MiB of messages", 50, (*process).stop, few),
		restartScenario("start after kill -9, 1,000 partitions with a record each", 50, (*process).stop, many,
			"--default-topic-partitions", strconv.Itoa(partitions)),
	}
}

// scenarios are all figures, in the order of the report.
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
		fetchScenario("fetch from memory, 1 MiB replies", 0.7, 128<<20, "--memory-bytes", "512MiB"),
		fetchScenario("fetch from the page cache, 1 MiB replies", 0.4, 256<<20, "--memory-bytes", "32MiB"),
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
