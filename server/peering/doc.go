// Package peering is what the nodes of a cluster say to each other over peer HTTP: writes
// on their way to the leader, joins, probes, leases, and what only the node that runs an
// instance can do or tell. Everybody here has proven to be a node of the cluster.
package peering
