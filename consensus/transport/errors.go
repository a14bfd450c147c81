package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Kind is a kind of failure. Each is an error, for errors.Is.
type Kind string

// The kinds of failure. What watches nodes must tell them apart: one whose machine refuses
// has lost its process, one that is silent may be slow or cut off.
const (
	// ErrRefused means that the machine answers and the process does not: the connection
	// was refused, reset or ended.
	ErrRefused Kind = "connection refused or ended"
	// ErrTimeout means that nothing came in time.
	ErrTimeout Kind = "no answer in time"
	// ErrUnreachable means that the network knows no way to the machine.
	ErrUnreachable Kind = "no way to the machine"
	// ErrIdentity means that another node of the cluster answered.
	ErrIdentity Kind = "another node answered"
	// ErrCertificate means that one side does not accept the other's certificate: another
	// cluster's, or not valid by one side's clock.
	ErrCertificate Kind = "certificate not accepted"
	// ErrNotAllowed means that the node does not take Raft's messages from this one: its
	// Allow refuses it.
	ErrNotAllowed Kind = "refused as a member"
	// ErrNoAddress means that nobody has said where the node is.
	ErrNoAddress Kind = "no address is known"
	// ErrClosed means that the transport of this node is closed.
	ErrClosed Kind = "transport is closed"
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Error is why a node could not be reached.
type Error struct {
	Node    string // the id that was wanted
	Address string // where it was looked for, if that is known
	Kind    Kind   // "" if the failure says nothing about the node
	Err     error
	// Dial is set when there was no connection: nothing has reached the node.
	Dial bool
}

// Error implements error.
func (e *Error) Error() string {
	text := "reach node " + e.Node
	if e.Address != "" {
		text += " at " + e.Address
	}
	if e.Kind != "" && !errors.Is(e.Err, e.Kind) {
		text += ": " + e.Kind.Error()
	}
	return text + ": " + e.Err.Error()
}

// Unwrap makes both the kind and the cause found by errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Kind == "" {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// KindOf returns the kind of an error of a connection to a peer, also of one met while
// reading or writing; "" if it says nothing about the peer.
func KindOf(err error) Kind {
	if kind, ok := errors.AsType[Kind](err); ok {
		return kind
	}
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		if _, ok := errors.AsType[x509.HostnameError](verify.Err); ok {
			return ErrIdentity
		}
		return ErrCertificate
	}
	// An alert of the peer. In TLS 1.3 it judges our certificate after our side of the
	// handshake is over, so that the first read meets it.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return ErrCertificate
	}
	for _, no := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, no) {
			return ErrRefused
		}
	}
	for _, no := range []error{syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, no) {
			return ErrUnreachable
		}
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ""
}

// fail makes an *Error of what went wrong on the way to a node; one that is one stays.
func (t *Transport) fail(node, address string, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	kind := KindOf(err)
	if t.ctx.Err() != nil {
		kind = ErrClosed
	}
	if kind == ErrIdentity && !t.isOurs(err) {
		kind = ErrCertificate
	}
	if kind == ErrCertificate {
		err = fmt.Errorf("another cluster's or another secret's, or a clock is wrong: %w", err)
	}
	return &Error{Node: node, Address: address, Kind: kind, Err: err}
}

// isOurs reports whether the certificate of the wrong node is at least of this cluster.
// TLS compares names before it looks for the CA.
func (t *Transport) isOurs(err error) bool {
	verify, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(verify.UnverifiedCertificates) == 0 {
		return true // found by our own comparison, after the CA was checked
	}
	_, bad := verify.UnverifiedCertificates[0].Verify(x509.VerifyOptions{
		Roots: t.cfg.Keyring.Pool(), CurrentTime: t.cfg.Now(),
	})
	return bad == nil
}
