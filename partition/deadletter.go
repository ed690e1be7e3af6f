package partition

import (
	"cmp"
	"errors"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// DeadLetterTopic returns the name of the dead-letter topic of a queue whose policy names none.
func DeadLetterTopic(topic, queue string) string { return topic + "." + queue + ".dlq" }

// deadLetterName returns the name of the dead-letter topic of a queue.
func (p *Partition) deadLetterName(queue string, policy QueuePolicy) string {
	return cmp.Or(policy.DeadLetter, DeadLetterTopic(p.topic.name, queue))
}

// To bury a dead letter is to publish it to its dead-letter topic and mark it done in the queue.

// buryLaterLocked hands p to the burial goroutine when the queue has dead letters.
func (p *Partition) buryLaterLocked(q *group.Queue) {
	if q.Stats().Dead == 0 || p.burying {
		return
	}
	p.burying = true
	select {
	case p.topic.registry.dead <- p:
	default: // partitions of deleted topics have the room that there is for every partition
		p.topic.registry.retryBurial(p)
	}
}

// runBurials buries dead letters until the registry closes. Those that it does not reach stay in the state of their
// queues and are buried after the next start.
func (r *Registry) runBurials() {
	for {
		select {
		case <-r.stop:
			return
		case p := <-r.dead:
			if err := p.bury(); err != nil && p.Err() == nil {
				r.logger.Warn("dead letters kept back", "topic", p.topic.name, "partition", p.number, "err", err)
				r.retryBurial(p)
			}
		}
	}
}

// burialRetry is the pause after a dead letter could not be stored.
const burialRetry = time.Second

func (r *Registry) retryBurial(p *Partition) {
	r.wg.Go(func() {
		select {
		case <-r.stop:
			return
		case <-time.After(burialRetry):
		}
		select {
		case <-r.stop:
		case r.dead <- p:
		}
	})
}

// bury publishes every dead letter of the partition and then marks them done. After a crash or failure between the
// two, p.doubt is set: some dead letters may be in their topic already, and bury looks for them there first.
func (p *Partition) bury() error {
	if p.Err() != nil {
		return nil // deleted with its topic, or of no use until a restart
	}
	var before *buried
	if p.doubt {
		before = &buried{ends: map[*Partition]uint64{}}
	}
	p.doubt = true
	for {
		name, policy, dead := p.nextDead()
		if len(dead) == 0 {
			p.doubt = false
			return nil
		}
		target, err := p.deadLetterTopic(name, policy)
		if err != nil {
			return err
		}
		// A crash must not find a dead letter whose death it has undone: the message would be delivered again.
		if err := syncAll([]*Partition{p}); err != nil {
			return err
		}
		there, err := before.among(p, target, name, dead)
		if err != nil {
			return err
		}
		done, err := p.buryAll(target, name, dead, there)
		if err != nil {
			return err
		}
		if err := syncAll(target.Partitions()); err != nil {
			return err
		}
		if err := p.markBuried(name, done); err != nil {
			return err
		}
	}
}

// buryAll buries dead letters, except those that are there already, and returns the offsets of those that are done:
// also of those that were lost to retention or damage, that nobody can decode, or that exceed max_record_bytes by so
// much, in a compressed batch, that they cannot be stored by themselves.
func (p *Partition) buryAll(
	target *Topic, queue string, dead []group.Dead, there map[uint64]bool,
) (done []uint64, err error) {
	told := uint64(0) // end of the damage that was logged
	r := deadReader{p: p}
	defer r.c.Release()
	for i := range dead {
		d := &dead[i]
		if there[d.Offset] {
			done = append(done, d.Offset)
			continue
		}
		err := p.buryOne(&r, target, queue, d)
		var lost *wire.Error
		switch {
		case err == nil, errors.Is(err, wire.CodeOffsetOutOfRange):
		case !errors.Is(err, wire.CodeCorruptRange) && !errors.Is(err, wire.CodeTooLarge):
			return nil, err
		case errors.As(err, &lost) && d.Offset >= told:
			told = lost.Next
			p.topic.registry.logger.Error("dead letters lost", "topic", p.topic.name, "partition", p.number,
				"offset", d.Offset, "err", err)
		}
		done = append(done, d.Offset)
	}
	return done, nil
}

// nextDead returns the dead letters of one queue. Without any it ends the burial.
func (p *Partition) nextDead() (name string, policy QueuePolicy, dead []group.Dead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, q := range p.state.Queues() {
		if q.Stats().Dead > 0 {
			return name, q.Policy(), q.Dead()
		}
	}
	p.burying = false
	return "", QueuePolicy{}, nil
}

// deadLetterTopic returns the dead-letter topic of a queue, and creates it when it does not exist.
func (p *Partition) deadLetterTopic(queue string, policy QueuePolicy) (*Topic, error) {
	name, r := p.deadLetterName(queue, policy), p.topic.registry
	if t := r.Topic(name); t != nil {
		return t, nil
	}
	// Without subjects: nobody publishes to it by subject, and its name may match another topic's subjects.
	t, err := r.Create(name, 0, []wire.Setting{
		{Key: "durability", Value: p.topic.Config().Level.String()}, {Key: "subjects", Value: noSubjects},
	})
	if errors.Is(err, wire.CodeTopicExists) {
		return t, nil
	}
	return t, err
}

// buryOne copies one record with the headers of a dead letter to the dead-letter topic. The record's own headers are
// left out when both together would be too large. The error is a *wire.Error.
func (p *Partition) buryOne(r *deadReader, target *Topic, queue string, d *group.Dead) error {
	rec, err := r.record(d.Offset)
	if err != nil {
		return err
	}
	h := p.deadHeaders(queue, d)
	if len(h)+len(rec.Headers) <= wire.MaxHeaderBytes {
		h = append(h, rec.Headers...)
	}
	rec.Headers = h
	var b wire.BatchBuilder // without a mark of ids: no dead letter is a duplicate of another
	b.Add(rec)
	batch, err := wire.ViewBatch(b.Bytes())
	if err != nil {
		return err
	}
	now := p.topic.registry.opts.Now()
	to := target.Place(rec.Key)
	_, _, _, err = to.Publish(&batch, nowMs(now))
	return err
}

// deadHeaders returns the headers that say where a dead letter came from and why it died. No two dead letters have
// the same ones.
func (p *Partition) deadHeaders(queue string, d *group.Dead) wire.Headers {
	var h wire.Headers
	h = h.Append(wire.HeaderDeadTopic, []byte(p.topic.name))
	h = h.Append(wire.HeaderDeadPartition, strconv.AppendUint(nil, uint64(p.number), 10))
	h = h.Append(wire.HeaderDeadOffset, strconv.AppendUint(nil, d.Offset, 10))
	h = h.Append(wire.HeaderDeadGroup, []byte(queue))
	h = h.Append(wire.HeaderDeadReason, []byte(d.Reason))
	h = h.Append(wire.HeaderDeadAttempts, strconv.AppendUint(nil, uint64(d.Attempts), 10))
	h = h.Append(wire.HeaderDeadFirst, d.First.UTC().AppendFormat(nil, time.RFC3339Nano))
	return h.Append(wire.HeaderDeadLast, d.Last.UTC().AppendFormat(nil, time.RFC3339Nano))
}

// markBuried logs that dead letters are in their topic, which makes them done, and a queue that was full of them takes
// messages again.
func (p *Partition) markBuried(queue string, offsets []uint64) error {
	frees, err := p.unlist(queue, offsets)
	if frees {
		p.moved()
	}
	return err
}

// unlist is markBuried without firing the watchers.
func (p *Partition) unlist(queue string, offsets []uint64) (frees bool, err error) {
	now := p.topic.registry.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(queue)
	if q == nil || len(offsets) == 0 {
		return false, nil
	}
	full := p.fullLocked(q)
	if command := q.PlanBuried(nil, offsets); len(command) > 0 {
		if _, err := p.logLocked(command, now); err != nil {
			return false, err
		}
	}
	p.deadLettered.Add(uint64(len(offsets)))
	return full && !p.fullLocked(q), nil
}
