package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const (
	backlogSize     = 128       // of a message's value, in bytes
	backlogMessages = 1_000_000 // how many a consumer reads: at least a quarter of a second's work
	backlogBatch    = 100       // messages per publish frame
)

// backlogBroker calls f with a client of a broker in memory that holds backlogMessages messages.
func backlogBroker(c *Config, f func(c *client.Client) (float64, error)) (float64, error) {
	p, err := startBroker(c, "", "--memory-bytes", "512MiB")
	return withProcess(p, err, func(p *process) (float64, error) {
		s, err := login(p.addr, "bench")
		if err != nil {
			return 0, err
		}
		defer s.close()
		frame := publishFrame(s.handle, 0, wire.LevelDefault, backlogSize, backlogBatch)
		if _, err := roundTrips(s.fdConn, frame, backlogMessages/backlogBatch); err != nil {
			return 0, err
		}
		cl, err := client.Dial(c.ctx, p.addr, client.Options{})
		if err != nil {
			return 0, err
		}
		defer func() { _ = cl.Close(c.ctx) }() // f has its result by then
		return f(cl)
	})
}

// groupScenario compares a group of one member with plain fetches, both through the Go client.
func groupScenario() scenario {
	return scenario{
		Name: "group consume through the Go client, 128 B, one member", Unit: "M msg/s",
		Target: ">= 0.5 x plain fetch through the client", Goal: 0.5,
		floor: func(c *Config) (float64, error) {
			return backlogBroker(c, func(cl *client.Client) (float64, error) { return clientFetchRate(c.ctx, cl) })
		},
		ours: func(c *Config) (float64, error) {
			return backlogBroker(c, func(cl *client.Client) (float64, error) { return groupRate(c.ctx, cl) })
		},
	}
}

// clientFetchRate fetches the backlog once and returns millions of messages per second.
func clientFetchRate(ctx context.Context, cl *client.Client) (float64, error) {
	start, bytes := time.Now(), 0
	for next := uint64(0); next < backlogMessages; {
		f, err := cl.Fetch(ctx, client.FetchRequest{Topic: "bench", From: client.At(next)})
		if err != nil {
			return 0, err
		}
		for i := range f.Messages {
			bytes += len(f.Messages[i].Value)
		}
		next = f.Next
	}
	return rateOf(bytes, start)
}

// groupRate reads the backlog once as a group and returns millions of messages per second.
func groupRate(ctx context.Context, cl *client.Client) (float64, error) {
	start, bytes, n := time.Now(), 0, 0
	err := cl.Run(ctx, client.Group("bench", "bench"), func(_ context.Context, m *client.Message) error {
		bytes += len(m.Value)
		if n++; n == backlogMessages {
			return client.ErrStop
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return rateOf(bytes, start)
}

// rateOf returns the millions of messages per second since start. It fails when bytes, the size of the
// values that were read, is less than that of the backlog.
func rateOf(bytes int, start time.Time) (float64, error) {
	took := time.Since(start)
	if bytes < backlogMessages*backlogSize {
		return 0, fmt.Errorf("%d bytes read, %d published", bytes, backlogMessages*backlogSize)
	}
	return float64(bytes) / backlogSize / took.Seconds() / 1e6, nil
}

const (
	rebalanceMembers = 100
	// rebalancePause is the time between two changes of the group. A rolling restart of a hundred members
	// is far slower than this.
	rebalancePause = 10 * time.Millisecond
)

// rebalanceScenario compares publish round trips while a group of rebalanceMembers members rebalances
// with round trips while the group does not change.
func rebalanceScenario() scenario {
	run := func(c *Config, churn bool) (float64, error) {
		return memoryBroker(c, func(p *process) (float64, error) {
			crowd, err := newCrowd(p.addr)
			if err != nil {
				return 0, err
			}
			ended := make(chan error, 1)
			go func() { ended <- crowd.run(churn) }()
			p99, err := roundTripP99(c, p.addr)
			crowd.stop.Store(true)
			if crowdErr := <-ended; err == nil {
				err = crowdErr
			}
			return p99, err
		})
	}
	return scenario{
		Name: "publish round trip p99 while 100 members rebalance", Unit: "us",
		Target: "<= 2 x with the members quiet", Goal: 2, Less: true,
		floor: func(c *Config) (float64, error) { return run(c, false) },
		ours:  func(c *Config) (float64, error) { return run(c, true) },
	}
}

// roundTripP99 returns the 99th percentile of publish round trips, in microseconds.
func roundTripP99(c *Config, addr string) (float64, error) {
	s, err := login(addr, "bench")
	if err != nil {
		return 0, err
	}
	defer s.close()
	return roundTrip(s.fdConn, publishFrame(s.handle, 0, wire.LevelDefault, 64, 1), c.RoundTrips, 99)
}

// crowd is the members of a group on one connection. They accept every assignment.
type crowd struct {
	*session
	stop    atomic.Bool       // makes run end
	members map[uint32]string // by the correlation id of their join
	last    uint32            // correlation id of the last request
	waiting int               // requests without a reply
}

// newCrowd creates a topic with one partition for each member, and lets all members join the group.
func newCrowd(addr string) (*crowd, error) {
	s, err := login(addr, "other")
	if err != nil {
		return nil, err
	}
	c := &crowd{session: s, members: map[uint32]string{}}
	m := wire.CreateTopic{Topic: "shared", Partitions: rebalanceMembers}
	if err = c.ask(wire.OpCreateTopic, m.Append); err == nil {
		err = c.settle()
	}
	for i := 0; i < rebalanceMembers && err == nil; i++ {
		err = c.join()
	}
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		s.close()
	}
	return c, err
}

// ask sends a request without waiting for the reply.
func (c *crowd) ask(op wire.Op, body func([]byte) []byte) error {
	c.last++
	c.waiting++
	return c.write(request(op, 0, c.last, body))
}

// join lets a new member join.
func (c *crowd) join() error {
	id := fmt.Sprint("member-", c.last)
	c.members[c.last+1] = id
	m := wire.JoinGroup{Group: "crowd", Member: id, Topics: []string{"shared"}}
	return c.ask(wire.OpJoinGroup, m.Append)
}

// leave lets any one member leave.
func (c *crowd) leave() error {
	for join, id := range c.members {
		delete(c.members, join)
		m := wire.LeaveGroup{Group: "crowd", Member: id}
		return c.ask(wire.OpLeaveGroup, m.Append)
	}
	return nil
}

// settle reads until every request has its reply, and confirms every assignment with a heartbeat.
func (c *crowd) settle() error {
	for c.waiting > 0 {
		f, err := c.frame()
		if err == nil {
			err = failure(f)
		}
		if err != nil {
			return err
		}
		if f.Op&wire.OpReply != 0 {
			c.waiting--
		}
		id, member := c.members[f.Correlation]
		if !member || f.Op != wire.OpAssigned && f.Op != wire.OpJoinGroup|wire.OpReply {
			continue
		}
		var a wire.Assigned
		if err := a.Parse(f.Body); err != nil {
			return err
		}
		h := wire.Heartbeat{Group: "crowd", Member: id, Revision: a.Revision}
		if err := c.ask(wire.OpHeartbeat, h.Append); err != nil {
			return err
		}
	}
	return nil
}

// run replaces one member after another until stop is set. Without churn it only waits. It closes the
// session.
func (c *crowd) run(churn bool) error {
	defer c.close()
	for !c.stop.Load() {
		time.Sleep(rebalancePause)
		if !churn {
			continue
		}
		if err := c.leave(); err != nil {
			return err
		}
		if err := c.join(); err != nil {
			return err
		}
		if err := c.settle(); err != nil {
			return err
		}
	}
	return nil
}
