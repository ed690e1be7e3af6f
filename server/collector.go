package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns the broker's counters into metrics when they are scraped. Code that handles messages does not know it.
type collector struct {
	srv    *Server
	oldest *oldestTimes
}

// Describe sends nothing: the metrics depend on which topics exist.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	e := &emitter{ch: ch, descs: map[string]*prometheus.Desc{}, cut: map[string]int{}}
	now, s := c.srv.opts.Now(), c.srv.survey()
	c.oldest.fill(&s)
	c.broker(e, now)
	c.connections(e)
	c.requests(e)
	c.storage(e, &s.log, now)
	e.gauge("rafka_active_topics", "Topics.", float64(len(s.topics)))
	e.gauge("rafka_partitions", "Partitions of all topics.", float64(s.partitions))
	c.topics(e, s.topics)
	c.members(e, c.groups(e, now))
	c.suppressed(e)
}

// maxSeries bounds the numbers of topics, partitions and groups that have series each, so that a scrape of a broker with
// 10,000 partitions does not become megabytes. The others are counted.
const maxSeries = 1000

// emitter sends the metrics of one scrape.
type emitter struct {
	ch    chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
	cut   map[string]int // how many were left out, by kind
}

func (e *emitter) counter(name, help string, v float64, labels ...string) {
	e.send(prometheus.CounterValue, name, help, v, labels)
}

func (e *emitter) gauge(name, help string, v float64, labels ...string) {
	e.send(prometheus.GaugeValue, name, help, v, labels)
}

// send emits one value. labels are names and values in turn.
func (e *emitter) send(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	names, values := split(labels)
	e.ch <- prometheus.MustNewConstMetric(e.desc(name, help, names), kind, v, values...)
}

func (e *emitter) histogram(name, help string, h *histogram) {
	count, sum, buckets := h.read()
	e.ch <- prometheus.MustNewConstHistogram(e.desc(name, help, nil), count, sum, buckets)
}

// desc returns the description of a metric. It makes one per scrape, because that takes longer than sending a value.
func (e *emitter) desc(name, help string, labels []string) *prometheus.Desc {
	d := e.descs[name]
	if d == nil {
		d = prometheus.NewDesc(name, help, labels, nil)
		e.descs[name] = d
	}
	return d
}

func split(labels []string) (names, values []string) {
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return names, values
}

// room reports whether the n-th of a kind gets series, and counts it when it does not.
func (e *emitter) room(kind string, n int) bool {
	if n < maxSeries {
		return true
	}
	e.cut[kind]++
	return false
}

func (c collector) suppressed(e *emitter) {
	for _, kind := range []string{cutTopics, cutPartitions, cutGroups, cutOffsets, cutMembers} {
		e.gauge("rafka_metrics_series_suppressed", "Topics, partitions, groups, offsets and members left out of the metrics because there are too many.",
			float64(e.cut[kind]), "kind", kind)
	}
}

// The kinds that maxSeries bounds.
const (
	cutTopics     = "topic"
	cutPartitions = "partition"
	cutGroups     = "group"
	cutOffsets    = "committed_offset"
	cutMembers    = "group_members"
)

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// broker emits the figures of the program, of messages and of the scheduler.
func (c collector) broker(e *emitter, now time.Time) {
	m := &c.srv.metrics
	revision, goVersion := buildOf()
	e.gauge("rafka_build_info", "Always 1; the labels name the running version.", 1,
		"version", c.srv.opts.Version, "revision", revision, "goversion", goVersion)
	e.gauge("rafka_uptime_seconds", "Time since the broker started.", now.Sub(c.srv.started).Seconds())
	e.counter("rafka_messages_published_total", "Messages appended by clients.", float64(m.published.messages.Load()))
	e.counter("rafka_messages_consumed_total", "Messages delivered to consumers.", float64(m.delivered.messages.Load()))
	e.counter("rafka_messages_failed_total", "Publishes that were refused or failed.", float64(m.failedPublishes.Load()))
	e.histogram("rafka_publish_latency_seconds", "From the arrival of a publish to its acknowledgement.", &m.publish)
	e.histogram("rafka_consume_latency_seconds", "From when messages became available to consumers to when they were delivered.", &m.consume)
	e.histogram("rafka_broker_response_latency_seconds", "Handling time of requests that need not wait for records or the disk.", &m.response)
	s := c.srv.registry.SchedulerStats()
	e.gauge("rafka_scheduled_messages", "Scheduled messages that wait to be published.", float64(s.Pending))
	e.counter("rafka_scheduled_published_total", "Scheduled messages that were published.", float64(s.Published))
	e.counter("rafka_scheduled_lost_total", "Scheduled messages that were damaged when they were due.", float64(s.Lost))
	e.counter("rafka_scheduler_clock_steps_total", "Jumps of the wall clock of more than a second.", float64(s.ClockSteps))
	e.histogram("rafka_scheduler_delay_seconds", "From when a scheduled message was due to when it was published.", &m.scheduled)
	published, consumed := m.rates.read()
	e.gauge("rafka_publish_throughput_messages_per_second", "Messages appended per second, over the last five seconds.", published)
	e.gauge("rafka_consume_throughput_messages_per_second", "Messages delivered per second, over the last five seconds.", consumed)
	e.counter("rafka_panics_total", "Panics; each is a bug and closed one connection.", float64(m.panics.Load()))
}
