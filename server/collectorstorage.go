package server

import (
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// storage emits the metrics of the storage as a whole.
func (c collector) storage(e *emitter, sum *logSurvey, now time.Time) {
	s, m := c.srv.store.Stats(), &c.srv.metrics
	e.gauge("rafka_storage_messages_total", "Messages stored now.", float64(sum.records))
	e.gauge("rafka_storage_bytes_total", "Bytes stored now.", float64(sum.bytes))
	e.gauge("rafka_storage_oldest_message_age_seconds", "Age of the oldest message stored.", ageOf(sum.oldest, now))
	e.gauge("rafka_storage_corrupt_messages", "Stored messages lost to damage that was found.", float64(sum.corrupt))
	e.counter("rafka_storage_errors_total", "Failed writes and flushes, and requests refused because of the storage.",
		float64(s.Failures+m.sumFailures(wire.CodeStorageFull, wire.CodeStorage, wire.CodeReadOnly, wire.CodeCorruptRange)))
	e.counter("rafka_storage_write_errors_total", "Failed writes and flushes.", float64(s.Failures))
	e.histogram("rafka_storage_fsync_duration_seconds", "Duration of flushes of files to the device.", &m.fsync)
	e.counter("rafka_storage_syncs_total", "Flushes of the commit log.", float64(s.Syncs))
	e.counter("rafka_storage_checkpoints_total", "Checkpoints.", float64(s.Checkpoints))
	e.gauge("rafka_storage_commit_log_bytes", "Bytes in the commit log since the last checkpoint.", float64(s.CommitLogBytes))
	e.counter("rafka_storage_compactions_total", "Passes of compaction over a partition.", float64(s.Compactions))
	e.gauge("rafka_storage_compacted_bytes", "Bytes removed from segments by compaction since the start.", float64(s.Reclaimed))
	e.counter("rafka_storage_damage_total", "Damaged headers, footers, checkpoints and chunks found.", float64(s.Damage))
	e.counter("rafka_storage_lost_entries_total", "Entries found damaged in the commit log.", float64(s.LostEntries))
	e.counter("rafka_storage_torn_tails_total", "Torn tails cut when the broker started.", float64(s.TornTails))
	e.gauge("rafka_storage_read_only_partitions", "Logs that refuse writes after a storage failure, or because of damaged or unreadable state.",
		float64(s.ReadOnly+c.srv.registry.SchedulerStats().Unread))
	e.gauge("rafka_storage_full", "1 while the disk is full.", boolValue(s.Full))
	c.memory(e, &s)
	c.disk(e)
}

func (c collector) memory(e *emitter, s *log.StoreStats) {
	e.gauge("rafka_memory_usage_bytes", "Memory of the process: Go's, and that of stored records.",
		float64(goMemory()+uint64(s.MemoryMapped)))
	e.gauge("rafka_memory_limit_bytes", "Limit of the memory for stored records.", float64(s.MemoryBudget))
	e.gauge("rafka_storage_memory_used_bytes", "Memory that holds stored records.", float64(s.MemoryUsed))
	e.gauge("rafka_storage_memory_peak_bytes", "Highest memory that held stored records since the start.", float64(s.MemoryPeak))
	e.counter("rafka_storage_cold_slabs_total", "Times a publish waited for fresh memory.", float64(s.ColdSlabs))
}

// disk emits the space of the data directory's file system, if that is known.
func (c collector) disk(e *emitter) {
	if c.srv.opts.Dir == "" || c.srv.opts.FS != nil {
		return
	}
	if size, free, err := log.OS.Space(c.srv.opts.Dir); err == nil {
		e.gauge("rafka_storage_disk_free_bytes", "Free space for the data directory.", float64(free))
		e.gauge("rafka_storage_disk_size_bytes", "Size of the file system with the data directory.", float64(size))
	}
}

// goMemory returns the memory in bytes that the Go runtime has mapped and not returned.
func goMemory() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64() - sample[1].Value.Uint64()
}

// buildOf returns the revision that the program was built from, "" when it is not known, and Go's
// version.
func buildOf() (revision, goVersion string) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return revision, runtime.Version()
}
