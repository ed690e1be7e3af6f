package partition

import (
	"path"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/rafka-mq/rafka/wire"
)

// recurrence says when a recurring message is due: a cron schedule in a time zone.
type recurrence struct {
	cron.Schedule
	location *time.Location
}

// cronParser reads the five fields of cron, and names such as @hourly.
var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// zones are the time zones that recurring messages use. They share them, because each takes 2.5 KB. There are less than two
// thousand. The zero value is ready.
type zones struct {
	mu     sync.Mutex // guards byName
	byName map[string]*time.Location
}

// location returns the time zone of a name; an empty one is UTC. Errors are of type *wire.Error with CodeInvalid.
func (z *zones) location(name string) (*time.Location, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if l := z.byName[name]; l != nil {
		return l, nil
	}
	l, err := time.LoadLocation(name)
	if err != nil || name == "Local" || name != "" && path.Clean(name) != name { // a file has any number of other names
		return nil, wire.Errorf(wire.CodeInvalid, "time zone %q is not known here; use a name such as Europe/Berlin", name)
	}
	if z.byName == nil {
		z.byName = map[string]*time.Location{}
	}
	z.byName[name] = l
	return l, nil
}

// newRecurrence parses a cron expression. Errors are of type *wire.Error with CodeInvalid.
func (z *zones) newRecurrence(spec, zone string, now time.Time) (*recurrence, error) {
	location, err := z.location(zone)
	if err != nil {
		return nil, err
	}
	if len(spec) > 0 && spec[0] != '@' && (spec[0] < '0' || spec[0] > '9') && spec[0] != '*' {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q does not begin with a minute, * or @", spec)
	}
	s, err := cronParser.Parse(spec)
	if err != nil {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q: %v", spec, err)
	}
	r := &recurrence{s, location}
	if r.after(now) == 0 {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q never comes", spec)
	}
	return r, nil
}

// everyHour is the bit of cron.SpecSchedule.Hour that stands for *.
const everyHour = 1 << 63

// Next returns the next time after t. When clocks are set back, an hour comes twice. What is due at certain hours is
// due the first time only. When they are set forward by half an hour, cron takes the same minute of the next hour for one
// that is due.
func (r *recurrence) Next(t time.Time) time.Time {
	next := r.Schedule.Next(t.In(r.location))
	s, ok := r.Schedule.(*cron.SpecSchedule)
	if !ok || s.Hour&everyHour != 0 {
		return next
	}
	for !next.IsZero() && (s.Hour>>next.Hour()&1 == 0 || comesAgain(next)) {
		next = r.Schedule.Next(next)
	}
	return next
}

// comesAgain reports whether the clocks of t's location showed the same time before.
func comesAgain(t time.Time) bool {
	const longest = 3 * time.Hour // clocks are set back by at most that
	_, now := t.Zone()
	_, before := t.Add(-longest).Zone()
	if before <= now {
		return false
	}
	_, first := t.Add(-time.Duration(before-now) * time.Second).Zone()
	return first == before
}

// after returns when the message is due next after t, in ms since 1970, or 0 for never.
func (r *recurrence) after(t time.Time) int64 {
	next := r.Next(t)
	if next.IsZero() {
		return 0
	}
	return next.UnixMilli()
}

// recurrences returns the recurrences of the items with a Cron by their index in items, and sets Due of those items
// to their first time.
func (z *zones) recurrences(items []ScheduleItem, now time.Time) (crons map[int]*recurrence, err error) {
	for i := range items {
		if items[i].Cron == "" {
			continue
		}
		r, err := z.newRecurrence(items[i].Cron, items[i].Zone, now)
		if err != nil {
			return nil, err
		}
		if crons == nil {
			crons = map[int]*recurrence{}
		}
		crons[i] = r
		items[i].Due = r.after(now)
	}
	return crons, nil
}
