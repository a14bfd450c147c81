package proxy

import (
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// classes are the values of the code label: the response's status class, or aborted
// when the client left before an answer.
var classes = [...]string{"aborted", "1xx", "2xx", "3xx", "4xx", "5xx"}

// noService is the label of requests whose host names no service.
const noService = ""

// peerService is the label of requests that another node has passed on: that node
// counts them under their service. No service can have the name.
const peerService = "(from peers)"

// metrics are the proxy's. The service label has one value for each known service:
// what a client makes up never becomes a label, and a deleted service's go with it.
type metrics struct {
	requests  *prometheus.CounterVec   // service, code
	firstByte *prometheus.HistogramVec // service
	inFlight  *prometheus.GaugeVec     // service
	wakes     prometheus.Histogram
	retries   prometheus.Counter
	unlogged  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, waiting func() float64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenement_proxy_requests_total",
			Help: "Requests answered, by service and status class; aborted: the client left first.",
		}, []string{"service", "code"}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tenement_proxy_first_byte_seconds",
			Help:    "Time from a request's arrival to the first byte of its response, waking included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"service"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenement_proxy_in_flight_requests",
			Help: "Requests and streams open now, held ones included.",
		}, []string{"service"}),
		wakes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tenement_proxy_wake_first_byte_seconds",
			Help:    "Time to the first byte of the requests that had to wait for their instance.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenement_proxy_retries_total",
			Help: "Times that a request was sent again because its first backend could not take it.",
		}),
	}
	m.unlogged = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tenement_proxy_unlogged_failures_total",
		Help: "Failed requests left out of the log because there were too many.",
	})
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tenement_proxy_held_requests",
		Help: "Requests that wait for their instance to come up, or for their route to go on.",
	}, waiting)
	for _, c := range []prometheus.Collector{m.requests, m.firstByte, m.inFlight, m.wakes, m.retries, m.unlogged, held} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register proxy metrics: %w", err)
		}
	}
	return m, nil
}

// serviceMetrics are one service's, looked up once: the request path only adds.
type serviceMetrics struct {
	m         *metrics
	service   string
	requests  [len(classes)]prometheus.Counter
	firstByte prometheus.Observer
	inFlight  prometheus.Gauge
}

func (m *metrics) of(service string) *serviceMetrics {
	s := &serviceMetrics{
		m: m, service: service,
		firstByte: m.firstByte.WithLabelValues(service),
		inFlight:  m.inFlight.WithLabelValues(service),
	}
	for i, class := range classes {
		s.requests[i] = m.requests.WithLabelValues(service, class)
	}
	return s
}

// open is the constructor that a route.Service hangs its metrics on.
func (m *metrics) open(service string) io.Closer { return m.of(service) }

// Close forgets the service's series.
func (s *serviceMetrics) Close() error {
	label := prometheus.Labels{"service": s.service}
	s.m.requests.DeletePartialMatch(label)
	s.m.firstByte.DeletePartialMatch(label)
	s.m.inFlight.DeletePartialMatch(label)
	return nil
}

// count counts one finished request.
func (s *serviceMetrics) count(status int) {
	class := status / 100
	if status == statusClientGone || class >= len(classes) {
		class = 0
	}
	s.requests[class].Inc()
}

// answered observes the first byte of a response.
func (s *serviceMetrics) answered(d time.Duration, woken bool) {
	s.firstByte.Observe(d.Seconds())
	if woken {
		s.m.wakes.Observe(d.Seconds())
	}
}
