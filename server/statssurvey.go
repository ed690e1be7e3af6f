package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
)

// survey is the outcome of one walk over all topics, for /varz and /metrics.
type survey struct {
	topics     []topicSurvey
	partitions int
	log        logSurvey
}

// topicSurvey is one topic's part of a survey.
type topicSurvey struct {
	topic *partition.Topic
	sum   partition.Stats // of the partitions' counters; its Log is not used
	parts []partitionSurvey
	log   logSurvey

	unknown []*partition.Partition // partitions with records whose age is not known without reading the disk
}

// partitionSurvey is a partition that this broker owns.
type partitionSurvey struct {
	number       int
	first, limit uint64 // offsets that consumers may read are in [first, limit)
	bytes        int64
}

// logSurvey is the sum of the figures of logs.
type logSurvey struct {
	records  uint64
	bytes    int64
	segments int
	corrupt  uint64 // records known to be lost
	oldest   time.Time
}

// survey looks at every partition. It does not wait for the disk.
func (srv *Server) survey() survey {
	var s survey
	for _, t := range srv.registry.Topics() {
		ts := topicSurvey{topic: t}
		for _, p := range t.Partitions() {
			s.partitions++
			if p.Err() == nil {
				ts.add(p)
			}
		}
		s.log.add(ts.log)
		s.topics = append(s.topics, ts)
	}
	return s
}

func (t *topicSurvey) add(p *partition.Partition) {
	st := p.Stats()
	t.sum.PublishedMessages += st.PublishedMessages
	t.sum.PublishedBytes += st.PublishedBytes
	t.sum.DeliveredMessages += st.DeliveredMessages
	t.sum.DeliveredBytes += st.DeliveredBytes
	t.sum.AckedMessages += st.AckedMessages
	t.sum.Redelivered += st.Redelivered
	t.sum.DeadLettered += st.DeadLettered
	t.sum.Deduplicated += st.Deduplicated
	t.sum.Expired += st.Expired
	t.sum.LostUndelivered += st.LostUndelivered
	t.parts = append(t.parts, partitionSurvey{
		number: int(p.Number()), first: p.First(), limit: p.Visible(), bytes: st.Log.Bytes,
	})
	l := logSurvey{
		records: st.Log.Records, bytes: st.Log.Bytes, segments: st.Log.Segments, corrupt: st.Log.Lost,
	}
	switch {
	case st.Log.Records == 0:
	case st.Log.Oldest.IsZero():
		t.unknown = append(t.unknown, p)
	default:
		l.oldest = st.Log.Oldest
	}
	t.log.add(l)
}

func (l *logSurvey) add(o logSurvey) {
	l.records += o.records
	l.bytes += o.bytes
	l.segments += o.segments
	l.corrupt += o.corrupt
	if l.oldest.IsZero() || !o.oldest.IsZero() && o.oldest.Before(l.oldest) {
		l.oldest = o.oldest
	}
}

// ageOf returns the seconds from at to now, 0 when at is not known.
func ageOf(at, now time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at).Seconds())
}
