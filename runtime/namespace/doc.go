// Package namespace is the driver for the isolation level "namespace": pid, mount, ipc
// and uts namespaces of its own, and a /proc that shows the instance's processes only. An
// ordinary user gets the same through a user namespace in which only that user exists.
//
// The program shares the node's files, network and user. DESIGN.md says how a start
// works and why.
package namespace
