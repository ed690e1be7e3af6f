package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// all returns all tasks.
func (r *groupRun) all() []*task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.tasks))
}

// running returns the tasks that release does not have.
func (r *groupRun) running() []*task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(r.tasks)), func(t *task) bool { return t.ending })
}

// commit is store that reports its errors.
func (r *groupRun) commit(ctx context.Context, tasks []*task) {
	if err := r.store(ctx, tasks); err != nil && ctx.Err() == nil {
		r.c.report(err)
	}
}

// forfeitAll notes the tasks that end with progress which they could not commit.
func (r *groupRun) forfeitAll(tasks []*task) {
	_ = r.progress.enter(context.Background())
	defer r.progress.leave()
	for _, t := range tasks {
		if t.done.Load() != t.committed {
			r.forfeitLocked(t)
		}
	}
}

// forfeitLocked notes that the progress of a task will not be committed. The caller holds progress.
func (r *groupRun) forfeitLocked(t *task) {
	t.committed = t.done.Load() // noted once
	r.forfeit = &t.place
}

// takeForfeit returns an error if progress was forfeited since it was last called. When ctx ends first, that is left
// for the next call.
func (r *groupRun) takeForfeit(ctx context.Context) error {
	if r.progress.enter(ctx) != nil {
		return nil
	}
	defer r.progress.leave()
	p := r.forfeit
	if p == nil {
		return nil
	}
	r.forfeit = nil
	return fmt.Errorf("commit %s/%d: %w", p.topic, p.partition, ErrPartitionLost)
}

// store commits the progress of tasks since the last commit, except those that are lost. When a
// commit is refused because one of its partitions was lost, it commits each partition by itself.
func (r *groupRun) store(ctx context.Context, tasks []*task) error {
	if err := r.progress.enter(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer r.progress.leave()
	batches := map[commitKey][]*task{}
	r.mu.Lock()
	for _, t := range tasks {
		switch key := (commitKey{t.place.topic, t.feed.topicID(), t.tenure}); {
		case t.done.Load() == t.committed:
		case t.lost:
			r.forfeitLocked(t)
		default:
			batches[key] = append(batches[key], t)
		}
	}
	r.mu.Unlock()
	var errs []error
	for key, batch := range batches {
		err := r.commitBatch(ctx, key, batch)
		if wire.CodeOf(err) != wire.CodeFenced || len(batch) == 1 {
			errs = append(errs, err)
			continue
		}
		for _, t := range batch { // one of them was lost
			errs = append(errs, r.commitBatch(ctx, key, []*task{t}))
		}
	}
	return errors.Join(errs...)
}

func (r *groupRun) commitBatch(ctx context.Context, key commitKey, batch []*task) error {
	offsets := make(map[int]uint64, len(batch))
	for _, t := range batch {
		offsets[int(t.place.partition)] = t.done.Load()
	}
	err := r.c.commit(ctx, r.s.Name, key, offsets)
	switch {
	case err == nil:
		for _, t := range batch {
			t.committed = offsets[int(t.place.partition)]
		}
	case wire.CodeOf(err) == wire.CodeFenced && len(batch) == 1:
		r.mu.Lock()
		batch[0].lost = true
		r.haltLocked(batch[0])
		r.mu.Unlock()
		r.forfeitLocked(batch[0])
		r.wakeTend() // the assignment says whether another member owns the partition
		return fmt.Errorf("handled messages are not committed and will be delivered again: %w", err)
	}
	return err
}
