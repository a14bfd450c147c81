package httpapi

import (
	_ "embed"
	"errors"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) serverHealth(*call) (*api.ServerHealth, error) {
	if s.closing.Err() != nil {
		return nil, api.Errorf(api.CodeUnavailable, "shutting down")
	}
	if err := s.cfg.Ready(); err != nil {
		if _, ok := errors.AsType[*api.Error](err); ok {
			return nil, err
		}
		return nil, api.Errorf(api.CodeUnavailable, "not ready: %w", err)
	}
	return &api.ServerHealth{Status: "ok"}, nil
}

func (s *Server) getNode(c *call) (*api.Node, error) {
	n, ok := c.view.Node(s.cfg.NodeID)
	if !ok {
		return nil, api.Errorf(api.CodeUnavailable, "node %s has not joined yet", s.cfg.NodeID)
	}
	return n, nil
}

func (s *Server) tlsStatus(*call) (api.TLSStatus, error) { return s.cfg.TLS(), nil }

func (s *Server) upgrade(c *call, req *api.UpgradeRequest) (api.UpgradeResult, error) {
	c.object = s.cfg.NodeID
	if req.Path != "" && !strings.HasPrefix(req.Path, "/") {
		return api.UpgradeResult{}, &api.FieldError{Field: "path", Got: clip(req.Path), Want: "an absolute path"}
	}
	return s.cfg.Upgrade(c.ctx, *req)
}

func (s *Server) telemetry(c *call) (*api.Telemetry, error) {
	t := &api.Telemetry{
		Node: s.cfg.NodeID, Version: s.cfg.Version, PID: os.Getpid(), StartedAt: s.started, Index: c.view.Index(),
		ByState: map[api.State]int{}, Goroutines: runtime.NumGoroutine(), Metrics: map[string]float64{},
	}
	for range c.view.Services() {
		t.Services++
	}
	for i := range c.view.Instances("") {
		t.Instances++
		t.ByState[s.fresh(i).State()]++
	}
	families, err := s.cfg.Registry.Gather()
	for _, f := range families { // what could be gathered, whatever could not
		switch {
		case strings.HasPrefix(f.GetName(), "tenement_"):
			sumFamily(t.Metrics, f)
		case f.GetName() == "go_memstats_heap_inuse_bytes" && len(f.Metric) == 1:
			t.HeapInUse = api.Size(f.Metric[0].GetGauge().GetValue())
		}
	}
	if err != nil {
		s.cfg.Logger.WarnContext(c.ctx, "gather metrics", "error", err)
	}
	return t, nil
}

// sumFamily adds a metric's values up over its labels.
func sumFamily(out map[string]float64, f *dto.MetricFamily) {
	name := f.GetName()
	for _, m := range f.Metric {
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			out[name] += m.GetCounter().GetValue()
		case dto.MetricType_GAUGE:
			out[name] += m.GetGauge().GetValue()
		case dto.MetricType_HISTOGRAM:
			out[name+"_count"] += float64(m.GetHistogram().GetSampleCount())
			out[name+"_sum"] += m.GetHistogram().GetSampleSum()
		default: // no other kind is in use
		}
	}
}

func metricsHandler(cfg Config) http.Handler {
	return promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

func (s *Server) serveMetrics(c *call) error {
	s.metrics.ServeHTTP(c.w, c.r)
	return nil
}

//go:embed landing.html
var landing []byte

func (s *Server) serveLanding(c *call) error {
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(landing) // a client that left can't be told
	return nil
}

func (s *Server) serveOpenAPI(c *call) error {
	c.w.Header().Set("Content-Type", mediaJSON)
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(s.openapi) // a client that left can't be told
	return nil
}

// apiMetrics counts the API's own requests.
type apiMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newAPIMetrics(reg prometheus.Registerer) (*apiMetrics, error) {
	m := &apiMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenement_api_requests_total", Help: "API requests by endpoint and status.",
		}, []string{"action", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tenement_api_request_seconds", Help: "Time that API requests took, waits and streams included.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 600},
		}, []string{"action"}),
	}
	if err := errors.Join(reg.Register(m.requests), reg.Register(m.seconds)); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *apiMetrics) observe(action string, status int, took time.Duration) {
	m.requests.WithLabelValues(action, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(action).Observe(took.Seconds())
}
