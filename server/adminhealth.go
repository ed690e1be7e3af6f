package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/rafka-mq/rafka/partition"
)

// live always answers that the process is alive.
func (a *admin) live(w http.ResponseWriter, _ *http.Request) { a.text(w, http.StatusOK, "ok\n") }

// storageFailed is the reason when nothing can be written any more.
const storageFailed = "the storage failed: every partition is read-only\n"

// health fails when no partition can be written to any more, which a restart may cure.
func (a *admin) health(w http.ResponseWriter, _ *http.Request) {
	if a.failed() {
		a.text(w, http.StatusServiceUnavailable, storageFailed)
		return
	}
	a.text(w, http.StatusOK, "ok\n")
}

// failed reports whether no partition that is served can be written to after storage failures. The topic metadata may not
// have noticed yet, because nothing was written to it.
func (a *admin) failed() bool {
	served := 0
	for _, t := range a.srv.registry.Topics() {
		for _, p := range t.Partitions() {
			if p.Err() != nil {
				continue
			}
			if p.Failure() == nil {
				return false
			}
			served++
		}
	}
	s := a.srv.store.Stats()
	return served > 0 || s.Logs > 0 && s.ReadOnly == s.Logs
}

// ready fails while the broker is useless to clients. When only a part does not work, the broker stays ready, because
// reads and other topics are served; the response lists the part.
func (a *admin) ready(w http.ResponseWriter, _ *http.Request) {
	switch {
	case !a.srv.accepting.Load():
		a.text(w, http.StatusServiceUnavailable, "the broker is starting or shutting down\n")
	case a.failed():
		a.text(w, http.StatusServiceUnavailable, storageFailed)
	default:
		a.text(w, http.StatusOK, "ok\n"+a.degraded())
	}
}

// maxReadOnlyListed bounds the partitions that /readyz names, because people read the list.
const maxReadOnlyListed = 100

// degraded returns a line for each part that does not work.
func (a *admin) degraded() string {
	var lines strings.Builder
	if a.srv.store.Stats().Full {
		lines.WriteString("degraded: the disk is full: publishes are refused, reads go on\n")
	}
	n := 0
	for _, p := range a.readOnly() {
		if n++; n > maxReadOnlyListed {
			continue
		}
		switch {
		case p.Err() != nil:
			fmt.Fprintf(&lines, "degraded: %s is not served: its consumer state cannot be read\n", p)
		case p.Failure() != nil:
			fmt.Fprintf(&lines, "degraded: %s is read-only after a storage failure\n", p)
		default:
			fmt.Fprintf(&lines, "degraded: scheduled messages of %s cannot be read\n", p)
		}
	}
	if n > maxReadOnlyListed {
		fmt.Fprintf(&lines, "degraded: %d more partitions are read-only\n", n-maxReadOnlyListed)
	}
	return lines.String()
}

// readOnly returns the partitions that refuse writes after a storage failure, and those that refuse everything because
// their state cannot be read or who cannot read what is scheduled.
func (a *admin) readOnly() (list []*partition.Partition) {
	for _, t := range a.srv.registry.Topics() {
		for _, p := range t.Partitions() {
			if p.Failure() != nil || p.ScheduleFailure() != nil {
				list = append(list, p)
			}
		}
	}
	return list
}
