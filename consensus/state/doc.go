// Package state is the cluster's replicated state: services, fleets, instances, nodes and
// tokens, and the commands that change them.
//
// It knows nothing of Raft. Commands go in as bytes, in the same order on every node,
// and have the same effect on every node: no clock, no randomness, no map order decides
// anything; ids and times arrive inside the command. Reads go to an immutable [View],
// which costs a pointer and takes no lock.
//
// See DESIGN.md beside this file for why it is built as it is.
package state
