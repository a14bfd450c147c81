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
	EligibilityCordoned Eligibility = "cordoned"
)

// Node is one server of the cluster.
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
	Revision    uint64      `json:"revision,omitempty"`
	JoinedAt    time.Time   `json:"joined_at,omitzero"`
}

// Capacity is what a node has to give.
type Capacity struct {
	CPUs   int  `json:"cpus"`
	Memory Size `json:"memory"`
}

// SetDefaults fills every unset field with its default.
func (n *Node) SetDefaults() { setDefault(&n.Eligibility, EligibilityEligible) }

// Validate checks a node after SetDefaults; see [Service.Validate].
func (n *Node) Validate() error {
	var c fieldChecks
	c.add(n.ID != "" && len(n.ID) <= 64, "id", n.ID, "1 to 64 characters")
	c.name("name", n.Name)
	all := []Eligibility{EligibilityEligible, EligibilityCordoned}
	c.add(slices.Contains(all, n.Eligibility), "eligibility", n.Eligibility, oneOf[Eligibility](all))
	c.add(n.Capacity.CPUs >= 0, "capacity.cpus", n.Capacity.CPUs, "0 or more")
	c.add(n.Capacity.Memory >= 0, "capacity.memory", n.Capacity.Memory, "0 or more")
	return c.err()
}

// Equal reports whether two nodes describe themselves alike, whatever their Revision
// and JoinedAt.
func (n *Node) Equal(o *Node) bool {
	return n.ID == o.ID && n.Name == o.Name && n.Region == o.Region && n.Zone == o.Zone &&
		n.Provider == o.Provider && maps.Equal(n.Labels, o.Labels) && n.Capacity == o.Capacity &&
		slices.Equal(n.Isolations, o.Isolations) && n.Eligibility == o.Eligibility && n.Version == o.Version
}

// Clone returns a deep copy.
func (n *Node) Clone() *Node {
	c := *n
	c.Labels = maps.Clone(n.Labels)
	c.Isolations = slices.Clone(n.Isolations)
	return &c
}
