// Package gossip knows which nodes of the cluster can be reached and at which
// addresses, by hashicorp/memberlist. What it knows is a hint: it is old by seconds, it
// may differ from node to node, and nothing is decided by it alone.
package gossip
