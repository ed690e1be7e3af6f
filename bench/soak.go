package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/bench/plot"
)

// SoakConfig configures Soak. The user sets it; zero fields mean the defaults.
type SoakConfig struct {
	// Duration of the measured part, after a short warm-up. Default 10 minutes.
	Duration time.Duration
	// Interval is the time that one sample covers, at most an eighth of Duration. Default: a 20th of it.
	Interval time.Duration
	// Share is the publish rate, as a share of the rate that the mix reaches without a limit: above 0, at
	// most 1. Default 0.5.
	Share float64
	// Dir is where the data directory is created. Default: the system's temporary directory.
	Dir string
	// Program is the path of the rafka to measure. Default: this program.
	Program string
	// Progress is called with each sample as it is taken. Default: nothing is called.
	Progress func(SoakSample)
}

func (c *SoakConfig) setDefaults() (err error) {
	c.Duration = cmp.Or(c.Duration, 10*time.Minute)
	c.Interval = cmp.Or(c.Interval, c.Duration/20)
	c.Share = cmp.Or(c.Share, 0.5)
	if c.Duration < 8*c.Interval {
		return fmt.Errorf("%w: a duration of %v is too short for intervals of %v: it must be at least 8 intervals", ErrInvalid, c.Duration, c.Interval)
	}
	if c.Share <= 0 || c.Share > 1 {
		return fmt.Errorf("%w: the share is %v: it must be above 0 and at most 1", ErrInvalid, c.Share)
	}
	if c.Progress == nil {
		c.Progress = func(SoakSample) {}
	}
	if c.Program == "" {
		c.Program, err = os.Executable()
	}
	return err
}

// SoakSample is what was measured in one interval. Latencies are in microseconds and count from when a
// message was due.
type SoakSample struct {
	At        float64 `json:"at_s"`         // end of the interval, in seconds from the start
	Published float64 `json:"published"`    // acknowledged messages per second
	Delivered float64 `json:"delivered"`    // messages per second that all readers received
	Resident  float64 `json:"resident_mb"`  // resident memory of the broker, MB
	CPU       float64 `json:"cpu"`          // processors that the broker kept busy
	GCShare   float64 `json:"gc_share"`     // share of the broker's processor time spent on garbage collection
	AckP50    float64 `json:"ack_p50_us"`   // to the acknowledgement, level memory
	AckP99    float64 `json:"ack_p99_us"`   // likewise
	ReadP50   float64 `json:"read_p50_us"`  // to the delivery to a pushed subscriber
	ReadP99   float64 `json:"read_p99_us"`  // likewise
	DiskP99   float64 `json:"disk_p99_us"`  // to the acknowledgement, level disk
	Connects  float64 `json:"connects"`     // connections per second that were opened, published once and were closed
	Behind    float64 `json:"behind_share"` // share of the messages that were sent over a millisecond late
}

// soakWarmUp is how long the mix runs without a limit first, to measure its highest rate.
const soakWarmUp = 5 * time.Second

// Soak runs a broker with files under a mix of loads for a long time, at a share of the mix's highest
// rate, and reports whether memory, garbage collection and latency grow. It fails when a message is
// lost, or comes twice or out of order where the broker promises otherwise. With an error, the report
// holds what was measured until then.
func Soak(ctx context.Context, c SoakConfig) (SoakReport, error) {
	if err := c.setDefaults(); err != nil {
		return SoakReport{}, err
	}
	r := SoakReport{Machine: plot.Machine(), Command: strings.Join(os.Args, " "), Share: c.Share}
	p, err := startDiskBroker(&Config{Program: c.Program, Dir: c.Dir}, "--admin", "127.0.0.1:0",
		"--durability", "memory", "--retention-bytes", "256MiB", "--memory-bytes", "512MiB")
	if err != nil {
		return r, err
	}
	err = r.run(ctx, &c, p)
	r.judge()
	return r, errors.Join(err, p.kill())
}

func (r *SoakReport) run(ctx context.Context, c *SoakConfig, p *process) error {
	m, err := newMix(ctx, p.addr)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.run(ctx, min(soakWarmUp, c.Duration/4), func(*flow) float64 { return 0 }); err != nil {
		return fmt.Errorf("run without a limit: %w", err)
	}
	rates := map[string]float64{}
	for _, f := range m.flows {
		rates[f.name] = f.measured * c.Share
		r.Flows = append(r.Flows, SoakFlow{f.name, f.what, f.measured, rates[f.name]})
	}
	sampler, err := newSampler(p, m)
	if err != nil {
		return err
	}
	// The last sample ends with the last whole interval: after it the load runs out.
	sampling, stop := context.WithTimeout(ctx, c.Duration+c.Interval/2)
	var wg sync.WaitGroup
	var sampleErr error
	wg.Go(func() {
		sampleErr = sampler.run(sampling, c.Interval, func(s SoakSample) {
			r.Samples = append(r.Samples, s)
			c.Progress(s)
		})
	})
	err = m.run(ctx, c.Duration, func(f *flow) float64 { return rates[f.name] })
	stop()
	wg.Wait()
	return errors.Join(err, sampleErr)
}
