package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sampler turns the counters of a mix and the metrics of its broker into samples.
type sampler struct {
	p     *process
	m     *mix
	start time.Time
	last  totals
}

// totals are the counters at one moment, since the start of the mix or of the broker.
type totals struct {
	at                                   time.Time
	published, delivered, late, connects float64
	broker                               map[string]float64 // metrics by name
}

// The metrics of the broker that samples are made of.
const (
	metricCPU      = "process_cpu_seconds_total"
	metricGC       = "go_cpu_classes_gc_total_cpu_seconds_total"
	metricResident = "process_resident_memory_bytes"
)

func newSampler(p *process, m *mix) (*sampler, error) {
	s := &sampler{p: p, m: m, start: time.Now()}
	s.resetLatencies()
	var err error
	s.last, err = s.read()
	return s, err
}

// run takes a sample every interval and calls each with it, until ctx ends.
func (s *sampler) run(ctx context.Context, interval time.Duration, each func(SoakSample)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		sample, err := s.take()
		if err != nil {
			return err
		}
		each(sample)
	}
}

// take returns the sample of the time since the last call.
func (s *sampler) take() (SoakSample, error) {
	now, err := s.read()
	if err != nil {
		return SoakSample{}, err
	}
	was := s.last
	s.last = now
	seconds := now.at.Sub(was.at).Seconds()
	rate := func(now, was float64) float64 { return (now - was) / seconds }
	cpu := rate(now.broker[metricCPU], was.broker[metricCPU])
	sample := SoakSample{
		At:        now.at.Sub(s.start).Seconds(),
		Published: rate(now.published, was.published),
		Delivered: rate(now.delivered, was.delivered),
		Connects:  rate(now.connects, was.connects),
		Behind:    (now.late - was.late) / max(1, now.published-was.published),
		Resident:  now.broker[metricResident] / 1e6,
		CPU:       cpu,
		GCShare:   rate(now.broker[metricGC], was.broker[metricGC]) / max(cpu, 0.001),
	}
	for _, f := range s.m.flows {
		if f.acks == nil {
			continue
		}
		l := f.acks.takeLatency()
		if f.name == "disk" {
			sample.DiskP99 = l.P99
		} else {
			sample.AckP50, sample.AckP99 = l.P50, l.P99
		}
	}
	l := s.m.reads.takeLatency()
	sample.ReadP50, sample.ReadP99 = l.P50, l.P99
	return sample, nil
}

// resetLatencies drops the latencies that were recorded before the first interval.
func (s *sampler) resetLatencies() {
	for _, f := range s.m.flows {
		if f.acks != nil {
			f.acks.takeLatency()
		}
	}
	s.m.reads.takeLatency()
}

func (s *sampler) read() (t totals, err error) {
	t.at = time.Now()
	t.connects = float64(s.m.connects.Load())
	for _, f := range s.m.flows {
		t.published += float64(f.acked.Load())
		t.late += float64(f.late.Load())
		for _, r := range f.readers {
			t.delivered += float64(r.seen.Load())
		}
	}
	t.broker, err = scrape(s.p.admin)
	return t, err
}

// scrape returns the values of a broker's metrics that have no labels, by name.
func scrape(admin string) (map[string]float64, error) {
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the broker's metrics: it answers %s", resp.Status)
	}
	return plainMetrics(resp.Body)
}

// plainMetrics parses the Prometheus text format and skips metrics with labels.
func plainMetrics(r io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" || strings.Contains(name, "{") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		values[name] = v
	}
	return values, lines.Err()
}
