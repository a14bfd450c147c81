package api

import "time"

// RouteResult answers POST /api/route: both instances after the change.
type RouteResult struct {
	From *Instance `json:"from"`
	To   *Instance `json:"to"`
}

// Telemetry answers GET /api/telemetry: this node in figures.
type Telemetry struct {
	Node       string        `json:"node"` // its id
	Version    string        `json:"version,omitempty"`
	PID        int           `json:"pid"` // of the serving ten
	StartedAt  time.Time     `json:"started_at"`
	Index      uint64        `json:"index"`
	Services   int           `json:"services"`
	Instances  int           `json:"instances"`
	ByState    map[State]int `json:"by_state"` // instances in each state; absent means 0
	Goroutines int           `json:"goroutines"`
	HeapInUse  Size          `json:"heap_in_use"`
	// Metrics holds every tenement_* metric of /metrics, summed over its labels;
	// histograms as NAME_count and NAME_sum.
	Metrics map[string]float64 `json:"metrics"`
}

// TLSStatus answers GET /api/tls/status.
type TLSStatus struct {
	Enabled      bool             `json:"enabled"`
	Domain       string           `json:"domain,omitempty"`
	Certificates []TLSCertificate `json:"certificates,omitempty"`
}

// TLSCertificate is one certificate that the node serves.
type TLSCertificate struct {
	Names    []string  `json:"names"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
}

// ServerHealth answers GET /health.
type ServerHealth struct {
	Status string `json:"status"` // "ok"
}
