package group

import "time"

// Defaults of a Policy.
const (
	defaultLease         = 30 * time.Second
	defaultBackoffMin    = time.Second
	defaultBackoffMax    = 5 * time.Minute
	defaultMaxDeliveries = 5
)

// Limits of a Policy and of the durations that a worker may ask for. Larger values are lowered to them.
const (
	// maxLease bounds one lease. A worker that needs longer must extend it.
	maxLease = 12 * time.Hour
	// maxDelay bounds the delay before a redelivery, because the queue's floor cannot pass a delayed
	// message.
	maxDelay = 7 * 24 * time.Hour
	// maxMaxDeliveries bounds Policy.MaxDeliveries. Attempts are kept in 16 bits.
	maxMaxDeliveries = 1000
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
	// MaxDeliveries is the number of deliveries after which a failing message becomes a dead letter.
	// Default 5, at most maxMaxDeliveries.
	MaxDeliveries int
	// DeadLetter is the topic of the dead letters, at most maxName bytes. This package only stores it;
	// the broker decides what an empty name means.
	DeadLetter string
	// OrderByKey delivers a message only when all earlier ones of its key are done or dead letters. So
	// two messages of one key are never in flight.
	OrderByKey bool
}

// normal returns p with defaults filled in, limits enforced and durations rounded up to milliseconds.
func (p Policy) normal() Policy {
	p.Lease = wholeMs(p.Lease, defaultLease, maxLease)
	p.BackoffMin = wholeMs(p.BackoffMin, defaultBackoffMin, maxDelay)
	p.BackoffMax = max(p.BackoffMin, wholeMs(p.BackoffMax, defaultBackoffMax, maxDelay))
	if p.MaxDeliveries <= 0 {
		p.MaxDeliveries = defaultMaxDeliveries
	}
	p.MaxDeliveries = min(p.MaxDeliveries, maxMaxDeliveries)
	return p
}

// wholeMs returns d rounded up to a millisecond and at most limit, or fallback when d is not positive.
func wholeMs(d, fallback, limit time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	d = min(d, limit)
	return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}

// jitterBlock is how many neighbouring offsets share their jitter. With a jitter for every offset, a range
// that fails together would fall apart into single messages.
const jitterBlock = 256

// backoff returns the delay in milliseconds after a failed attempt: BackoffMin doubled with every attempt
// after the first, at most BackoffMax, plus or minus up to 20 % of jitter. The jitter depends only on the
// offset's block and the attempt.
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

// ms returns t in milliseconds since 1970, clamped to [0, maxMoment].
func ms(t time.Time) int64 { return min(max(0, t.UnixMilli()), maxMoment) }

// after returns now plus d in milliseconds since 1970, rounded up so that nothing is early.
func after(now time.Time, d time.Duration) int64 {
	return max(1, ms(now.Add(d+time.Millisecond-1)))
}
