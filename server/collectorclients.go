package server

import "github.com/rafka-mq/rafka/wire"

// connections emits the metrics of connections, sessions and logins.
func (c collector) connections(e *emitter) {
	m := &c.srv.metrics
	e.gauge("rafka_active_connections", "Open client connections.", float64(c.srv.connections.Load()))
	e.gauge("rafka_active_consumers", "Push subscriptions, and connections that lease from queues.",
		float64(m.subscriptions.Load()+m.workers.Load()))
	const speak = "Open client connections by protocol."
	e.gauge("rafka_connections", speak, float64(m.binarySessions.Load()), "protocol", "binary")
	e.gauge("rafka_connections", speak, float64(m.textSessions.Load()), "protocol", "text")
	e.counter("rafka_connections_opened_total", "Connections accepted.", float64(m.opened.Load()))
	e.counter("rafka_connections_closed_total", "Connections that ended.", float64(m.closed.Load()))
	e.counter("rafka_connections_refused_total", "Connections refused because of the limit of open connections.", float64(m.refused.Load()))
	e.counter("rafka_connections_throttled_total", "Connections refused because of the limit of new connections per second.", float64(m.throttled.Load()))
	e.counter("rafka_slow_consumers_total", "Connections closed because they did not read their output.", float64(m.slowConsumers.Load()))
	e.counter("rafka_received_bytes_total", "Bytes read from clients.", float64(m.bytesIn.Load()))
	e.counter("rafka_sent_bytes_total", "Bytes written to clients.", float64(m.bytesOut.Load()))
	e.counter("rafka_connection_errors_total", "Connections refused, rejected, timed out, too slow or malformed.",
		float64(m.connectionErrors()))
	e.counter("rafka_live_messages_total", "Messages published to subjects.", float64(m.sent.messages.Load()))
	e.counter("rafka_live_bytes_total", "Bytes of messages published to subjects.", float64(m.sent.bytes.Load()))
	e.counter("rafka_live_delivered_messages_total", "Messages delivered to live subscriptions.", float64(m.passed.messages.Load()))
	e.counter("rafka_live_delivered_bytes_total", "Bytes of messages delivered to live subscriptions.", float64(m.passed.bytes.Load()))
	e.counter("rafka_auth_failures_total", "Refused logins.", float64(m.authFailures.Load()))
	e.counter("rafka_permission_denials_total", "Requests refused for lack of permission.", float64(m.denials.Load()))
}

// requests emits requests and error replies.
func (c collector) requests(e *emitter) {
	m := &c.srv.metrics
	e.counter("rafka_partition_errors_total", "Requests for topics, partitions or offsets that this broker does not have.",
		float64(m.sumFailures(wire.CodeTopicNotFound, wire.CodeTopicDeleted, wire.CodePartitionNotFound,
			wire.CodeNotOwner, wire.CodeOffsetOutOfRange)))
	for op := range m.requests {
		if n := m.requests[op].Load(); n > 0 {
			e.counter("rafka_requests_total", "Requests of the binary protocol, by operation.", float64(n), "op", wire.Op(op).String())
		}
	}
	for code := range m.failures {
		if n := m.failures[code].Load(); n > 0 {
			e.counter("rafka_error_replies_total", "Error replies, by the name of their code.", float64(n), "code", wire.Code(code).String())
		}
	}
}
