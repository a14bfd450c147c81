package api

import (
	"slices"
	"time"
)

// MemberRole is a node's part in the Raft cluster.
type MemberRole string

// The roles of a member.
const (
	MemberLeader   MemberRole = "leader"
	MemberVoter    MemberRole = "voter"
	MemberNonvoter MemberRole = "nonvoter" // has the whole state, but no vote
	MemberNone     MemberRole = ""         // a node that is in the state, but not in Raft
)

// Member is a node as the cluster sees it. It answers GET /api/nodes.
type Member struct {
	Node
	Role MemberRole `json:"role"`
	// Index is the state's index that the node had applied when the answering node last
	// heard from it; Lag is how far it was behind then.
	Index uint64 `json:"index,omitempty"`
	Lag   uint64 `json:"lag,omitempty"`
	// Gossip is the failure detector's opinion: alive, suspect, dead, left or unknown. It
	// is a hint: only Status counts.
	Gossip       string    `json:"gossip,omitempty"`
	GossipReason string    `json:"gossip_reason,omitempty"`
	GossipSince  time.Time `json:"gossip_since,omitzero"`
	Instances    int       `json:"instances"` // placed on it
}

// ClusterStatus answers GET /api/cluster.
type ClusterStatus struct {
	ID     string `json:"id"`
	Node   string `json:"node"`             // the id of the node that answers
	Leader string `json:"leader,omitempty"` // the leader's id; empty while there is none
	Index  uint64 `json:"index"`            // that the answering node has applied
	// Stale is set when the answering node has lost the leader: what it says may be old.
	Stale   bool     `json:"stale,omitempty"`
	Members []Member `json:"members"`
}

// NodeRequest is the body of PUT /api/nodes/{node}: what users write of a node.
type NodeRequest struct {
	Eligibility Eligibility `json:"eligibility"`
}

// PlanRequest is the body of POST /api/plan: where would these go? Nothing is changed. An
// empty request asks for the whole cluster as it is.
type PlanRequest struct {
	Service   *Service    `json:"service,omitempty"` // as if it were put first
	Fleet     *Fleet      `json:"fleet,omitempty"`
	Instances []*Instance `json:"instances,omitempty"`
	Drain     []string    `json:"drain,omitempty"` // as if these nodes were drained
}

// PlanResult answers POST /api/plan.
type PlanResult struct {
	Index   uint64     `json:"index"` // of the state that was planned on
	Changes []Decision `json:"changes"`
}

// Decision is where one instance goes, and why, or why nowhere.
type Decision struct {
	Ref  Ref    `json:"ref"`
	From string `json:"from,omitempty"` // node id
	// Node is the id of the node chosen; empty: none can take it.
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason"`
	// Excluded says what ruled out how many nodes.
	Excluded []Exclusion `json:"excluded,omitempty"`
}

// Exclusion is one reason that ruled out nodes.
type Exclusion struct {
	Reason string `json:"reason"` // such as `zone = eu-1` or "memory"
	Nodes  int    `json:"nodes"`
}

// JoinToken lets a server without the cluster's secret fetch it. Only the SHA-256 of its
// own secret is stored.
type JoinToken struct {
	ID          string    `json:"id"` // 12 hex digits
	Description string    `json:"description,omitempty"`
	SHA256      []byte    `json:"sha256,omitempty"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // zero: never
	MaxUses     int       `json:"max_uses,omitempty"`  // 0: any number
	Uses        int       `json:"uses,omitempty"`
	Revision    uint64    `json:"revision,omitempty"`
}

// Validate checks a join token; see [Service.Validate].
func (t *JoinToken) Validate() error {
	var c fieldChecks
	check(&c, validHex(t.ID, 12), "id", t.ID, "12 hex digits")
	check(&c, len(t.Description) <= 200, "description", t.Description, "at most 200 bytes")
	check(&c, len(t.SHA256) == 32, "sha256", len(t.SHA256), "32 bytes")
	check(&c, t.MaxUses >= 0, "max_uses", t.MaxUses, "0 (any number) or more")
	return c.err()
}

// Equal reports whether two join tokens are the same credential with the same limits.
func (t *JoinToken) Equal(o *JoinToken) bool {
	return t.ID == o.ID && t.Description == o.Description && slices.Equal(t.SHA256, o.SHA256) &&
		t.ExpiresAt.Equal(o.ExpiresAt) && t.MaxUses == o.MaxUses
}

// Clone returns a deep copy.
func (t *JoinToken) Clone() *JoinToken {
	c := *t
	c.SHA256 = slices.Clone(t.SHA256)
	return &c
}

// JoinTokenRequest is the body of POST /api/join-tokens.
type JoinTokenRequest struct {
	Description string   `json:"description,omitempty"`
	ExpiresIn   Duration `json:"expires_in,omitempty"` // 0: never
	MaxUses     int      `json:"max_uses,omitempty"`   // 0: any number
}

// CreatedJoinToken answers POST /api/join-tokens: the one time that the text is told.
type CreatedJoinToken struct {
	JoinToken
	Text string `json:"text"` // what `ten serve --token-file` reads
}

// SecretPhase is a step in the rotation of the cluster's secret. Each is taken once every
// node has confirmed the one before.
type SecretPhase string

// The phases of a rotation, in their order.
const (
	SecretInstall SecretPhase = "install" // nodes trust the new secret beside the old one
	SecretUse     SecretPhase = "use"     // and use it
	SecretRemove  SecretPhase = "remove"  // and no longer trust the old one
)

// SecretPhases lists every phase.
func SecretPhases() []SecretPhase { return []SecretPhase{SecretInstall, SecretUse, SecretRemove} }

// SecretStatus answers GET /api/secret: how far the rotation of the cluster's secret is.
// Secrets are named by ids, which are digests and tell nothing of them.
type SecretStatus struct {
	// Phase is the step that was taken last; empty before the first rotation.
	Phase SecretPhase `json:"phase,omitempty"`
	// Secrets are the ids of those that every node has to have in this phase, the one to
	// use first.
	Secrets   []string  `json:"secrets"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// Complete is set when no rotation is under way: the last phase is confirmed by every
	// node, or there was none.
	Complete bool         `json:"complete"`
	Nodes    []SecretNode `json:"nodes"`
}

// SecretNode is how far one node is with the rotation of the cluster's secret.
type SecretNode struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Secrets   []string `json:"secrets"`   // the ids of those that it trusts, the one that it uses first
	Confirmed bool     `json:"confirmed"` // it has taken the present phase
}
