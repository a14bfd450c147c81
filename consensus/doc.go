// Package consensus keeps the cluster's state in a Raft log: it owns Raft's life, its
// files and its transport, turns typed writes into commands, and answers reads from
// package state.
//
// One node is a cluster of one: it bootstraps an empty directory by itself and leads at
// once. Everything Raft needs from one node is here already, so that a second one is a
// join and not a rewrite. See DESIGN.md beside this file.
package consensus
