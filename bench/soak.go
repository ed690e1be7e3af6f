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
	// Duration of the measured part. Default 10 minutes.
	Duration time.Duration
	// Interval is how long one sample takes. Default a 20th of Duration.
	Interval time.Duration
	// Share of the most that the mix reaches without a limit. Default 0.5.
	Share float64
	// Dir is where the data directory is made. Default: the system's temporary directory.
	Dir string
	// Program is the rafka to measure. Default: this program.
	Program string
	// Progress is told each sample as it is taken. Default: nobody.
	Progress func(SoakSample)
}

func (c *SoakConfig) setDefaults() (err error) {
	c.Duration = cmp.Or(c.Duration, 10*time.Minute)
	c.Interval = cmp.Or(c.Interval, c.Duration/20)
	c.Share = cmp.Or(c.Share, 0.5)
	if c.Duration < 8*c.Interval {
		return errors.New("bench: a soak takes at least 8 intervals")
	}
	if c.Share <= 0 || c.Share > 1 {
		return fmt.Errorf("bench: a share of %v, above 0 and up to 1 is possible", c.Share)
	}
	if c.Progress == nil {
		c.Progress = func(SoakSample) {}
	}
	if c.Program == "" {
		c.Program, err = os.Executable()
	}
	return err
}

// SoakSample is what one interval was like.
type SoakSample struct {
	At        float64 `json:"at_s"`         // its end, from the start
	Published float64 `json:"published"`    // acknowledged messages a second
	Delivered float64 `json:"delivered"`    // messages a second, over all readers
	Resident  float64 `json:"resident_mb"`  // memory of the broker
	CPU       float64 `json:"cpu"`          // processors that the broker keeps busy
	GCShare   float64 `json:"gc_share"`     // of the broker's processor time
	AckP50    float64 `json:"ack_p50_us"`   // publish to ack, from the due time, level memory
	AckP99    float64 `json:"ack_p99_us"`   //
	ReadP50   float64 `json:"read_p50_us"`  // publish to a pushed subscriber, from the due time
	ReadP99   float64 `json:"read_p99_us"`  //
	DiskP99   float64 `json:"disk_p99_us"`  // publish to ack, level disk
	Connects  float64 `json:"connects"`     // connections a second that come, publish and go
	Behind    float64 `json:"behind_share"` // of the messages, sent over a millisecond late
}

// soakWarmUp is how long the mix runs without a limit, to learn what half of its best is.
const soakWarmUp = 5 * time.Second

// Soak runs a broker with files under a mix of load for a long time, at a share of what the mix reaches
// at most, and reports whether memory, collection and latency stay as they are. Every message is counted
// and must arrive: once and in order where that is promised.
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
	return r, errors.Join(err, p.stop())
}

func (r *SoakReport) run(ctx context.Context, c *SoakConfig, p *process) error {
	m, err := newMix(ctx, p.addr)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.run(ctx, min(soakWarmUp, c.Duration/4), func(*flow) float64 { return 0 }); err != nil {
		return fmt.Errorf("without a limit: %w", err)
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
	// What comes behind the last whole interval is the end of the load, not the load.
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
