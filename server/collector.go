package server

import (
	runtimemetrics "runtime/metrics"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// maxPartitionSeries bounds the series with a partition label: a broker with 10,000 partitions must
// not turn a scrape into megabytes. What is cut is counted.
const maxPartitionSeries = 1000

// collector turns the broker's counters into metrics when they are asked for. Nothing on the way of
// a message knows of it.
type collector struct{ srv *Server }

// Describe sends nothing: the metrics depend on which topics exist.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch}
	now := c.srv.opts.Now()
	c.broker(e, now)
	c.storage(e, now)
	c.topics(e)
	c.groups(e, now)
}

// emitter sends metrics.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) counter(name, help string, v float64, labels ...string) {
	e.send(prometheus.CounterValue, name, help, v, labels)
}

func (e emitter) gauge(name, help string, v float64, labels ...string) {
	e.send(prometheus.GaugeValue, name, help, v, labels)
}

// send emits one value; labels are names and values in turn.
func (e emitter) send(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	names, values := split(labels)
	e.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func split(labels []string) (names, values []string) {
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return names, values
}

func (e emitter) histogram(name, help string, h *histogram) {
	count, sum, buckets := h.read()
	e.ch <- prometheus.MustNewConstHistogram(prometheus.NewDesc(name, help, nil, nil), count, sum, buckets)
}

func (c collector) broker(e emitter, now time.Time) {
	m, st := &c.srv.metrics, c.srv.Stats(now)
	published, consumed := m.rates.read()
	e.gauge("rafka_build_info", "The version that runs; always 1.", 1, "version", c.srv.opts.Version)
	e.gauge("rafka_uptime_seconds", "Time since the broker started.", st.Uptime)
	e.counter("rafka_messages_published_total", "Messages appended.", float64(st.Published))
	e.counter("rafka_messages_consumed_total", "Messages handed to consumers.", float64(st.Delivered))
	e.counter("rafka_messages_failed_total", "Publishes that were refused or failed.", float64(m.failedPublishes.Load()))
	e.histogram("rafka_publish_latency_seconds", "From the arrival of a publish to its acknowledgement.", &m.publish)
	e.histogram("rafka_consume_latency_seconds", "From when messages could be handed out to when they were.", &m.consume)
	e.histogram("rafka_broker_response_latency_seconds", "Of requests that need not wait for records or the disk.", &m.response)
	e.gauge("rafka_publish_throughput_messages_per_second", "Messages appended, over the last five seconds.", published)
	e.gauge("rafka_consume_throughput_messages_per_second", "Messages handed out, over the last five seconds.", consumed)
	e.gauge("rafka_active_connections", "Open client connections.", float64(st.Connections))
	e.gauge("rafka_active_topics", "Topics.", float64(st.Topics))
	e.gauge("rafka_active_consumers", "Push subscriptions, and connections that lease from queues.", float64(m.subscriptions.Load()+m.workers.Load()))
	e.gauge("rafka_connections", "Open client connections that speak a protocol.", float64(m.binarySessions.Load()), "protocol", "binary")
	e.gauge("rafka_connections", "Open client connections that speak a protocol.", float64(m.textSessions.Load()), "protocol", "text")
	e.counter("rafka_connections_opened_total", "Connections accepted.", float64(m.opened.Load()))
	e.counter("rafka_connections_refused_total", "Connections over the limit.", float64(m.refused.Load()))
	e.counter("rafka_slow_consumers_total", "Connections closed because they did not read.", float64(m.slowConsumers.Load()))
	e.counter("rafka_sent_bytes_total", "Bytes written to clients.", float64(m.bytesOut.Load()))
	e.counter("rafka_panics_total", "Bugs that cost one connection.", float64(m.panics.Load()))
	e.counter("rafka_connection_errors_total", "Connections refused, rejected, timed out, too slow or malformed.", float64(m.connectionErrors()))
	e.counter("rafka_partition_errors_total", "Requests for topics, partitions or offsets that are not here.",
		float64(m.sumFailures(wire.CodeTopicNotFound, wire.CodeTopicDeleted, wire.CodePartitionNotFound, wire.CodeNotOwner, wire.CodeOffsetOutOfRange)))
	for op := range m.requests {
		if n := m.requests[op].Load(); n > 0 {
			e.counter("rafka_requests_total", "Requests of the binary protocol.", float64(n), "op", wire.Op(op).String())
		}
	}
	for code := range m.failures {
		if n := m.failures[code].Load(); n > 0 {
			e.counter("rafka_error_replies_total", "Error replies by code.", float64(n), "code", wire.Code(code).String())
		}
	}
}

func (c collector) storage(e emitter, now time.Time) {
	st, s := c.srv.Stats(now), c.srv.store.Stats()
	m := &c.srv.metrics
	e.gauge("rafka_memory_usage_bytes", "Memory of the process: Go's, and that of stored records.", float64(goMemory()+uint64(s.MemoryMapped)))
	e.gauge("rafka_memory_limit_bytes", "Limit of the memory for stored records.", float64(s.MemoryBudget))
	e.gauge("rafka_storage_messages_total", "Messages stored now.", float64(st.Stored))
	e.gauge("rafka_storage_bytes_total", "Bytes stored now.", float64(st.StoredBytes))
	e.gauge("rafka_storage_oldest_message_age_seconds", "Age of the oldest message stored.", c.oldest(now))
	e.counter("rafka_storage_errors_total", "Failed writes and flushes, and requests refused because of the storage.",
		float64(s.Failures+m.sumFailures(wire.CodeStorageFull, wire.CodeStorage, wire.CodeReadOnly, wire.CodeCorruptRange)))
	e.counter("rafka_storage_syncs_total", "Flushes of the commit log.", float64(s.Syncs))
	e.counter("rafka_storage_checkpoints_total", "Checkpoints.", float64(s.Checkpoints))
	e.gauge("rafka_storage_commit_log_bytes", "Commit log since the last checkpoint.", float64(s.CommitLogBytes))
	e.counter("rafka_storage_damage_total", "Damaged headers, footers, checkpoints and chunks found.", float64(s.Damage))
	e.counter("rafka_storage_lost_entries_total", "Entries found damaged in the commit log.", float64(s.LostEntries))
	e.counter("rafka_storage_torn_tails_total", "Torn tails cut when the broker started.", float64(s.TornTails))
	e.gauge("rafka_storage_read_only_partitions", "Partitions that refuse writes after a storage failure.", float64(s.ReadOnly))
	e.gauge("rafka_storage_full", "1 while the disk is full.", boolValue(s.Full))
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// goMemory returns what the Go runtime has mapped.
func goMemory() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64() - sample[1].Value.Uint64()
}

// oldest returns the age in seconds of the oldest message of any partition, 0 when there is none.
func (c collector) oldest(now time.Time) (age float64) {
	for _, t := range c.srv.registry.Topics() {
		for _, p := range t.Partitions() {
			if s := p.Stats().Log; s.Records > 0 && !s.Oldest.IsZero() {
				age = max(age, now.Sub(s.Oldest).Seconds())
			}
		}
	}
	return age
}

func (c collector) topics(e emitter) {
	series, cut := 0, 0
	for _, t := range c.srv.registry.Topics() {
		var sum partition.Stats
		for _, p := range t.Partitions() {
			s := p.Stats()
			sum.PublishedMessages += s.PublishedMessages
			sum.PublishedBytes += s.PublishedBytes
			sum.DeliveredMessages += s.DeliveredMessages
			sum.DeliveredBytes += s.DeliveredBytes
			sum.AckedMessages += s.AckedMessages
			sum.Redelivered += s.Redelivered
			sum.DeadLettered += s.DeadLettered
			sum.LostUndelivered += s.LostUndelivered
			if p.Err() != nil {
				continue
			}
			if series++; series > maxPartitionSeries {
				cut++
				continue
			}
			labels := []string{"topic", t.Name(), "partition", strconv.Itoa(int(p.Number()))}
			e.gauge("rafka_partition_start_offset", "First offset stored.", float64(p.First()), labels...)
			e.gauge("rafka_partition_end_offset", "End of what consumers may read.", float64(p.Visible()), labels...)
			e.gauge("rafka_partition_size_bytes", "Bytes stored.", float64(s.Log.Bytes), labels...)
		}
		topic := []string{"topic", t.Name()}
		e.counter("rafka_topic_published_messages_total", "Messages appended.", float64(sum.PublishedMessages), topic...)
		e.counter("rafka_topic_published_bytes_total", "Bytes of batches appended.", float64(sum.PublishedBytes), topic...)
		e.counter("rafka_topic_delivered_messages_total", "Messages handed to consumers.", float64(sum.DeliveredMessages), topic...)
		e.counter("rafka_topic_delivered_bytes_total", "Bytes of entries handed to consumers.", float64(sum.DeliveredBytes), topic...)
		e.counter("rafka_topic_acked_messages_total", "Messages acknowledged in queues or covered by commits.", float64(sum.AckedMessages), topic...)
		e.counter("rafka_topic_redelivered_messages_total", "Deliveries after the first.", float64(sum.Redelivered), topic...)
		e.counter("rafka_topic_dead_lettered_messages_total", "Messages moved to a dead-letter topic.", float64(sum.DeadLettered), topic...)
		e.counter("rafka_topic_dropped_messages_total", "Messages that retention removed before a queue delivered them.", float64(sum.LostUndelivered), topic...)
	}
	e.gauge("rafka_metrics_series_suppressed", "Partitions left out of the partition metrics.", float64(cut))
}

func (c collector) groups(e emitter, now time.Time) {
	type key struct{ group, topic string }
	sums := map[key]*wire.GroupInfo{}
	for _, t := range c.srv.registry.Topics() {
		for _, p := range t.Partitions() {
			for _, g := range p.Groups(now) {
				k := key{g.Group, g.Topic}
				if sums[k] == nil {
					if len(sums) >= maxPartitionSeries {
						continue
					}
					sums[k] = &wire.GroupInfo{}
				}
				s := sums[k]
				s.Lag += g.Lag
				s.LagSeconds = max(s.LagSeconds, g.LagSeconds)
				s.InFlight += g.InFlight
				s.Retrying += g.Retrying
				s.Dead += g.Dead
			}
		}
	}
	for k, s := range sums {
		labels := []string{"group", k.group, "topic", k.topic}
		e.gauge("rafka_group_lag_messages", "Messages not yet done.", float64(s.Lag), labels...)
		e.gauge("rafka_group_lag_seconds", "Age of the oldest message not yet done.", s.LagSeconds, labels...)
		e.gauge("rafka_group_in_flight_messages", "Messages leased now.", float64(s.InFlight), labels...)
		e.gauge("rafka_group_retrying_messages", "Messages that wait for their redelivery.", float64(s.Retrying), labels...)
		e.gauge("rafka_group_dead_messages", "Messages on their way to the dead-letter topic.", float64(s.Dead), labels...)
	}
}
