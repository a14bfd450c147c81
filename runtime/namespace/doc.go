// Package namespace is the driver for the isolation level "namespace": pid, mount, ipc
// and uts namespaces of its own, a /proc that shows the instance's processes only, and a
// host name of its own. An ordinary user gets the same through a user namespace in
// which only that user exists.
//
// The program shares the node's files, network and user. DESIGN.md says how a start
// works and why.
package namespace
