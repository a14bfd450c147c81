package api

import "time"

// Header names of the HTTP API.
const (
	// HeaderIndex carries, on every reply, the Raft index that the answering node has applied.
	HeaderIndex = "X-Tenement-Index"
	// HeaderStale is "true" on what a node that has lost the leader read: it may be old.
	HeaderStale = "X-Tenement-Stale"
	// ProblemType is the media type of an error's body; see [Problem].
	ProblemType = "application/problem+json"
)

// SpawnRequest is the body of POST /api/instances/spawn: create the instance or set its
// desired state to running, and answer once it accepts connections.
type SpawnRequest struct {
	Process string `json:"process"` // the service
	ID      string `json:"id"`
}

// WeightRequest is the body of PUT /api/instances/{service:id}/weight.
type WeightRequest struct {
	Weight *int `json:"weight"` // required
}

// DeployRequest is the body of POST /api/deploy: run instance Version of service Process,
// answer once it is healthy, and give it Weight only then: a version that never becomes
// healthy never meets weighted traffic.
type DeployRequest struct {
	Process string `json:"process"`
	Version string `json:"version"`
	// Weight null means 100 for the service's first instance and 0 for any other new one
	// (POST /api/route shifts the traffic); a version that exists keeps what it has.
	Weight  *int     `json:"weight,omitempty"`
	Timeout Duration `json:"timeout,omitempty"` // zero: the service's startup_timeout and 5 s
}

// RouteRequest is the body of POST /api/route: all weighted traffic of service Process
// goes to instance To, none to From.
type RouteRequest struct {
	Process string `json:"process"`
	From    string `json:"from"`
	To      string `json:"to"`
}

// TokenRequest is the body of POST /api/tokens.
type TokenRequest struct {
	Role        Role      `json:"role,omitempty"` // default: tenant when Tenant is set, else admin
	Tenant      string    `json:"tenant,omitempty"`
	Description string    `json:"description,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`  // zero, and ExpiresIn zero: never
	ExpiresIn   Duration  `json:"expires_in,omitempty"` // instead of ExpiresAt
}

// TokenPut is the body of PUT /api/tokens/{id}: a token of a secret that the server does
// not know, or other rights for one that it has.
type TokenPut struct {
	Role        Role      `json:"role,omitempty"` // default: tenant when Tenant is set, else admin
	Tenant      string    `json:"tenant,omitempty"`
	Description string    `json:"description,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`  // zero, and ExpiresIn zero: never
	ExpiresIn   Duration  `json:"expires_in,omitempty"` // instead of ExpiresAt
	// SHA256 is that of the secret, which [ParseSecret] tells; required of a new token.
	SHA256 []byte `json:"sha256,omitempty"`
}

// CreatedToken answers POST /api/tokens: the one time that the secret is told.
type CreatedToken struct {
	Token
	Secret string `json:"secret"`
}

// Health answers GET /api/instances/{service:id}/health.
type Health struct {
	Service string    `json:"service"`
	ID      string    `json:"id"`
	State   State     `json:"state"`
	Healthy bool      `json:"healthy"` // accepts connections and passed its last health check
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Storage answers GET /api/instances/{service:id}/storage.
type Storage struct {
	Service string `json:"service"`
	ID      string `json:"id"`
	Path    string `json:"path"`
	Used    Size   `json:"used"`
	Quota   Size   `json:"quota,omitempty"` // 0: none
	Over    bool   `json:"over"`            // Used exceeds Quota
	Persist bool   `json:"persist"`
}

// UpgradeRequest is the body of POST /api/upgrade: the serving ten hands its listeners to
// a new process of the program at Path and leaves; no instance is restarted.
type UpgradeRequest struct {
	Path string `json:"path,omitempty"` // absolute; empty: the path ten was started from
}

// UpgradeResult answers POST /api/upgrade once the successor serves.
type UpgradeResult struct {
	PID     int    `json:"pid"`
	Version string `json:"version,omitempty"`
}

// Problem is the body of every error answer, RFC 9457.
type Problem struct {
	Type       string       `json:"type,omitempty"`
	Title      string       `json:"title,omitempty"`
	Status     int          `json:"status,omitempty"`
	Code       Code         `json:"code"`
	Detail     string       `json:"detail"`
	Fields     []FieldError `json:"fields,omitempty"`
	RetryAfter Duration     `json:"retry_after,omitempty"`
}

// Problem returns the error in its form on the wire.
func (e *Error) Problem(title string) Problem {
	return Problem{
		Type: "about:blank", Title: title, Status: e.Code.Status(), Code: e.Code, Detail: e.Message,
		Fields: e.Fields, RetryAfter: e.RetryAfter,
	}
}

// Err returns the error that the problem describes.
func (p *Problem) Err() *Error {
	return &Error{Code: p.Code, Message: p.Detail, Fields: p.Fields, RetryAfter: p.RetryAfter}
}
