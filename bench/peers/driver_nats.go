package main

import (
	"context"

	"github.com/nats-io/nats.go"
)

// natsConn drives core NATS with nats.go, at nats-server or any server that speaks its protocol.
type natsConn struct{ nc *nats.Conn }

func dialNATS(s *server) (conn, error) {
	nc, err := connectNATS(s.addr)
	return &natsConn{nc}, err
}

func connectNATS(addr string) (*nats.Conn, error) {
	return nats.Connect("nats://"+addr, nats.MaxReconnects(0))
}

func (c *natsConn) create(keeping, ...string) error { return nil }

func (c *natsConn) close() error {
	c.nc.Close()
	return nil
}

// send publishes to the client's buffer. The flush at the end waits for a round trip.
func (c *natsConn) send(topic string, w *work) error {
	for p := w.next(); p != nil; p = w.next() {
		if err := c.nc.Publish(topic, p); err != nil {
			return err
		}
	}
	return c.nc.FlushTimeout(patience)
}

func (c *natsConn) subscribe(topic string, _ bool, take func([]byte)) error {
	s, err := c.nc.Subscribe(topic, func(m *nats.Msg) { take(m.Data) })
	if err != nil {
		return err
	}
	if err := s.SetPendingLimits(-1, -1); err != nil { // no limits: the client must not drop messages
		return err
	}
	return c.nc.FlushTimeout(patience)
}

func (c *natsConn) respond(subject string) error {
	if _, err := c.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil { // if Respond fails, the request times out
		return err
	}
	return c.nc.FlushTimeout(patience)
}

func (c *natsConn) request(subject string, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, payload)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
