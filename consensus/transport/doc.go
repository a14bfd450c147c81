// Package transport is the peer port: one TLS 1.3 listener through which the nodes of a
// cluster reach one another, and the connections that a node makes to the others' ports.
// The protocol that is named in the handshake (ALPN) decides what a connection carries:
// Raft's messages, peer HTTP, or a new node that asks to join.
//
// Who the other side is says its certificate, not its address. See DESIGN.md.
package transport
