// Package api is the vocabulary of tenement: the objects that users declare, the
// cluster stores, nodes observe and every surface speaks about.
//
// The structs here are at once the HTTP body, the Raft payload, the stored value,
// the client's result and the command line's --json output, so that a field means
// the same thing wherever it appears. JSON changes are additive only.
//
// The package imports the standard library alone, and holds no I/O and no clock.
package api
