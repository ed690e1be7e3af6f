package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rafka-mq/rafka/wire"
)

// admin is the HTTP server for people and monitoring. It has no login, so it belongs on the loopback address or behind
// a proxy that has one.
type admin struct {
	srv      *Server
	listener net.Listener
	http     *http.Server
	wg       sync.WaitGroup
}

const (
	// adminTimeout bounds reading a request and its headers.
	adminTimeout = 10 * time.Second
	// answerTimeout bounds a response, including the time in which the client reads it. A profile gets the
	// duration that was asked for in addition.
	answerTimeout = 30 * time.Second
)

// startAdmin starts the admin server. It returns nil when there is no admin address.
func startAdmin(srv *Server) (*admin, error) {
	if srv.opts.Admin == off {
		return nil, nil
	}
	l, err := net.Listen("tcp", srv.opts.Admin)
	if err != nil {
		return nil, fmt.Errorf("listen for admin HTTP: %w", err)
	}
	a := &admin{srv: srv, listener: l}
	a.http = &http.Server{
		Handler: a.routes(), ReadTimeout: adminTimeout, ReadHeaderTimeout: adminTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(srv.opts.Logger.Handler(), slog.LevelDebug),
	}
	a.wg.Go(func() {
		if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			srv.opts.Logger.Error("admin HTTP ended", "err", err)
		}
	})
	return a, nil
}

// adminGrace is how long running requests may take when the broker stops.
const adminGrace = time.Second

func (a *admin) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	err := a.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = a.http.Close()
	}
	a.wg.Wait()
	return err
}

// maxScrapes bounds the scrapes that run at a time, because each looks at every partition.
const maxScrapes = 4

// gcMetrics are Go runtime metrics that are exported besides the default ones: the CPU time of garbage collection.
var gcMetrics = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/cpu/classes/(gc/total|total):cpu-seconds$`)}

func (a *admin) routes() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{a.srv, &oldestTimes{}},
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(gcMetrics)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.index)
	mux.HandleFunc("GET /livez", a.live)
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		ErrorLog:            slog.NewLogLogger(a.srv.opts.Logger.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /varz", a.vars)
	mux.HandleFunc("GET /connz", a.conns)
	mux.HandleFunc("GET /topicz", a.topics)
	mux.HandleFunc("GET /groupz", a.groups)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

const adminIndex = `rafka admin
/healthz      200 unless the storage failed
/readyz       200 when clients are served; says what does not work
/livez        200 while the process answers
/metrics      Prometheus
/varz         totals, JSON
/connz        connections, JSON
/topicz       topics, JSON
/groupz       groups and queues, JSON
/debug/pprof  profiles
`

func (a *admin) index(w http.ResponseWriter, _ *http.Request) { a.text(w, http.StatusOK, adminIndex) }

func (a *admin) vars(w http.ResponseWriter, _ *http.Request) {
	a.json(w, a.srv.Stats(a.srv.opts.Now()))
}

// topic is a topic in /topicz.
type topic struct {
	Topic      string            `json:"topic"`
	Settings   map[string]string `json:"settings"`
	Partitions []topicPart       `json:"partitions"`
}

// topicPart is a partition in /topicz, with the names of rafka topic info.
type topicPart struct {
	Partition int    `json:"partition"`
	First     uint64 `json:"first"`
	Next      uint64 `json:"next"`
	Visible   uint64 `json:"visible"`
	Bytes     uint64 `json:"bytes"`
	Status    string `json:"status"`
}

func (a *admin) topics(w http.ResponseWriter, _ *http.Request) {
	list := []topic{}
	for _, t := range a.srv.registry.Topics() {
		info := t.Info()
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		parts := make([]topicPart, len(info.Partitions))
		for i, p := range info.Partitions {
			parts[i] = topicPart{i, p.First, p.Next, p.Visible, p.Bytes, statusNames[p.Status]}
		}
		list = append(list, topic{Topic: info.Topic, Settings: settings, Partitions: parts})
	}
	a.json(w, list)
}

func (a *admin) groups(w http.ResponseWriter, _ *http.Request) {
	list := []wire.GroupInfo{}
	now := a.srv.opts.Now()
	for _, t := range a.srv.registry.Topics() {
		for _, p := range t.Partitions() {
			list = append(list, p.GroupsCold(now)...)
		}
	}
	a.srv.nameHolders(list)
	a.json(w, list)
}

func (a *admin) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client is gone.
	_ = json.NewEncoder(w).Encode(v)
}

func (a *admin) text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // as above
}
