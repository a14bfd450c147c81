package peering

import (
	"github.com/tenement-fleet/tenement/api"
)

// Status is what a server says of itself to one that wants to join, or to found a
// cluster together with it.
type Status struct {
	NodeID string `json:"node_id"`
	Name   string `json:"name"`
	// ClusterID is empty while the server is of no cluster.
	ClusterID string `json:"cluster_id,omitempty"`
	// Expect is the number of servers that are to found a cluster, as this one was told.
	Expect int `json:"expect,omitempty"`
	// Promised is the id of the server that this one lets found the cluster.
	Promised string `json:"promised,omitempty"`
	Version  string `json:"version,omitempty"`
}

// JoinRequest asks to be made a member, or to be known at a new address.
type JoinRequest struct {
	Node api.Node `json:"node"`
	// ClusterID is the cluster that the node belongs to already; empty: to none.
	ClusterID string `json:"cluster_id,omitempty"`
	// Moves is set by a node that has been a member: one that was removed meanwhile is not
	// to be made one again.
	Moves bool `json:"moves,omitempty"`
}

// JoinAnswer is what a new member needs to know.
type JoinAnswer struct {
	ClusterID string     `json:"cluster_id"`
	Nodes     []api.Node `json:"nodes"` // every node that the cluster has
}

// PromiseRequest asks a server that is of no cluster to let the candidate found one.
type PromiseRequest struct {
	Candidate string `json:"candidate"` // its node id
	Expect    int    `json:"expect"`
}

// Pong answers a probe.
type Pong struct {
	NodeID string `json:"node_id"`
	Term   uint64 `json:"term"`  // Raft's, as the node knows it
	Index  uint64 `json:"index"` // of the state, as applied
	Leader string `json:"leader,omitempty"`
	// Leaving is set once the node has said that it stops and comes back.
	Leaving bool `json:"leaving,omitempty"`
}

// Empty is an answer without content.
type Empty struct{}
