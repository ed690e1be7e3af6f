package group

import "time"

// Defaults of a Policy.
const (
	DefaultLease         = 30 * time.Second
	DefaultBackoffMin    = time.Second
	DefaultBackoffMax    = 5 * time.Minute
	DefaultMaxDeliveries = 5
)

// Limits of a Policy and of the durations a worker may ask for. Larger values are lowered to them.
const (
	// MaxLease bounds one lease. A message held longer is better extended than forgotten.
	MaxLease = 12 * time.Hour
	// MaxDelay bounds the delay before a redelivery, because a delayed message keeps the records
	// behind it from counting as done.
	MaxDelay = 7 * 24 * time.Hour
	// MaxMaxDeliveries bounds Policy.MaxDeliveries: attempts are kept in 16 bits per range.
	MaxMaxDeliveries = 1000
)

// Policy says how a queue treats its messages. The zero value of a field means its default.
type Policy struct {
	// Lease is how long a worker has for a message unless it asks otherwise. Default 30 s.
	Lease time.Duration
	// BackoffMin is the delay after the first failure; every further failure doubles it.
	// Default 1 s, at least 1 ms.
	BackoffMin time.Duration
	// BackoffMax bounds the doubling. Default 5 min, at least BackoffMin.
	BackoffMax time.Duration
	// MaxDeliveries is the number of deliveries after which a failing message is dead.
	// Default 5, at most MaxMaxDeliveries.
	MaxDeliveries int
	// DeadLetter is the topic of the dead letters, at most MaxName bytes. This package only keeps
	// it: the broker decides what an empty name means.
	DeadLetter string
	// OrderByKey never has two messages of one key in flight: a message is delivered when all earlier
	// ones of its key are done or dead letters.
	OrderByKey bool
}

// normal returns p with defaults filled in, limits kept and durations in whole milliseconds.
func (p Policy) normal() Policy {
	p.Lease = wholeMs(p.Lease, DefaultLease, MaxLease)
	p.BackoffMin = wholeMs(p.BackoffMin, DefaultBackoffMin, MaxDelay)
	p.BackoffMax = max(p.BackoffMin, wholeMs(p.BackoffMax, DefaultBackoffMax, MaxDelay))
	if p.MaxDeliveries <= 0 {
		p.MaxDeliveries = DefaultMaxDeliveries
	}
	p.MaxDeliveries = min(p.MaxDeliveries, MaxMaxDeliveries)
	return p
}

// wholeMs rounds d up to a millisecond, bounded by limit; what is not positive becomes fallback.
func wholeMs(d, fallback, limit time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	d = min(d, limit)
	return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}

// jitterBlock is how many neighbouring offsets share their jitter. With a jitter for every offset,
// a range that fails together would fall apart into single messages; so it stays a few ranges.
const jitterBlock = 256

// backoff returns the delay in milliseconds after the given failed attempt of a message:
// BackoffMin doubled with every attempt, at most BackoffMax, and then up to 20 % more or less. The
// jitter is a function of the offset's block and the attempt.
func (p *Policy) backoff(offset uint64, attempt uint16) uint64 {
	d, limit := uint64(p.BackoffMin.Milliseconds()), uint64(p.BackoffMax.Milliseconds())
	for i := uint16(1); i < attempt && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	const full, spread = 10_000, 2_000
	percent := full - spread + mix(offset/jitterBlock<<16^uint64(attempt))%(2*spread+1)
	return max(1, d*percent/full)
}

// mix is the finaliser of splitmix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ms returns t in milliseconds since 1970, from 0 to maxMoment.
func ms(t time.Time) int64 { return min(max(0, t.UnixMilli()), maxMoment) }

// after returns the moment d behind now in milliseconds, rounded up so that nothing is early.
func after(now time.Time, d time.Duration) int64 {
	return max(1, ms(now.Add(d+time.Millisecond-1)))
}
