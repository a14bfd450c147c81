package api

import (
	"maps"
	"slices"
	"time"
)

// Eligibility says whether a node may be given new instances.
type Eligibility string

// The eligibilities.
const (
	EligibilityEligible Eligibility = "eligible"
	EligibilityCordoned Eligibility = "cordoned" // keeps what it has, gets nothing new
	EligibilityDraining Eligibility = "draining" // and what it has moves away, one at a time
)

// Eligibilities lists every eligibility.
func Eligibilities() []Eligibility {
	return []Eligibility{EligibilityEligible, EligibilityCordoned, EligibilityDraining}
}

// NodeStatus is whether the leader reaches a node.
type NodeStatus string

// The statuses of a node. A node that never had one is up.
const (
	NodeUp   NodeStatus = "up"
	NodeDown NodeStatus = "down" // does not answer; after Node.Deadline its instances are replaced
	NodeLeft NodeStatus = "left" // said good-bye and is expected back: its instances stay its own
)

// Node is one server of the cluster. It describes itself at every start; users write
// Eligibility; the leader writes Status and what belongs to it.
type Node struct {
	ID       string            `json:"id"` // UUID, kept on disk for the life of the node
	Name     string            `json:"name"`
	Region   string            `json:"region,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Provider string            `json:"provider,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Capacity Capacity          `json:"capacity"`
	// Isolations lists the levels that work on the node.
	Isolations  []Isolation `json:"isolations,omitempty"`
	Eligibility Eligibility `json:"eligibility"`
	Version     string      `json:"version,omitempty"`
	// StateVersion is the newest version of the replicated state's commands that the node
	// understands. The cluster uses none that one of its nodes does not.
	StateVersion int `json:"state_version,omitempty"`
	// HTTPAddress, PeerAddress and GossipAddress are where others reach it, host:port.
	HTTPAddress   string `json:"http_address,omitempty"`
	PeerAddress   string `json:"peer_address,omitempty"`
	GossipAddress string `json:"gossip_address,omitempty"`
	// SecretIDs names the cluster secrets that the node trusts, the one that it uses first.
	// They are digests: they tell nothing of the secrets.
	SecretIDs []string `json:"secret_ids,omitempty"`

	Status       NodeStatus `json:"status,omitempty"`
	StatusReason string     `json:"status_reason,omitempty"` // why it is down, in words
	StatusSince  time.Time  `json:"status_since,omitzero"`
	// Deadline is when the instances of a node that is down are replaced. It is part of
	// the state so that the next leader keeps it.
	Deadline time.Time `json:"deadline,omitzero"`

	Revision uint64    `json:"revision,omitempty"`
	JoinedAt time.Time `json:"joined_at,omitzero"`
}

// CPUSharesPerCPU is what one CPU counts against the cpu_shares of the instances on it.
const CPUSharesPerCPU = 1024

// Capacity is what a node has to give to instances; the limits of those that are placed
// on it count against it. A zero is no bound.
type Capacity struct {
	CPUs    int  `json:"cpus"`
	Memory  Size `json:"memory"`
	Storage Size `json:"storage,omitempty"`
}

// SetDefaults fills every unset field with its default.
func (n *Node) SetDefaults() { setDefault(&n.Eligibility, EligibilityEligible) }

// Validate checks a node after SetDefaults; see [Service.Validate].
func (n *Node) Validate() error {
	var c fieldChecks
	check(&c, n.ID != "" && len(n.ID) <= 64, "id", n.ID, "1 to 64 characters")
	c.name("name", n.Name)
	check(&c, slices.Contains(Eligibilities(), n.Eligibility), "eligibility", n.Eligibility, oneOf[Eligibility](Eligibilities()))
	check(&c, n.Capacity.CPUs >= 0, "capacity.cpus", n.Capacity.CPUs, "0 or more")
	check(&c, n.Capacity.Memory >= 0, "capacity.memory", n.Capacity.Memory, "0 or more")
	check(&c, n.Capacity.Storage >= 0, "capacity.storage", n.Capacity.Storage, "0 or more")
	return c.err()
}

// Reachable reports whether the leader reaches the node, for all it knows.
func (n *Node) Reachable() bool { return n.Status == "" || n.Status == NodeUp }

// Equal reports whether two nodes describe themselves alike and are as eligible, whatever
// the leader and the state have written of them.
func (n *Node) Equal(o *Node) bool {
	return n.ID == o.ID && n.Name == o.Name && n.Region == o.Region && n.Zone == o.Zone &&
		n.Provider == o.Provider && maps.Equal(n.Labels, o.Labels) && n.Capacity == o.Capacity &&
		slices.Equal(n.Isolations, o.Isolations) && n.Eligibility == o.Eligibility && n.Version == o.Version && n.StateVersion == o.StateVersion &&
		n.HTTPAddress == o.HTTPAddress && n.PeerAddress == o.PeerAddress && n.GossipAddress == o.GossipAddress &&
		slices.Equal(n.SecretIDs, o.SecretIDs)
}

// Clone returns a deep copy.
func (n *Node) Clone() *Node {
	c := *n
	c.Labels = maps.Clone(n.Labels)
	c.Isolations = slices.Clone(n.Isolations)
	c.SecretIDs = slices.Clone(n.SecretIDs)
	return &c
}
