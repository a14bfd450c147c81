package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/consensus/secret"
)

// What a connection can carry, by its name in the handshake.
const (
	protoRaft  = "ten-raft/1"
	protoJoin  = "ten-join/1"
	protoHTTP2 = "h2"
	protoHTTP1 = "http/1.1"
)

// hintSize is how many digits of a CA's fingerprint a client puts into the server name.
const hintSize = 16

// serverName is what a client asks for: the node's name, behind a label that lists the
// CAs the client trusts. While a secret is being replaced a server has two certificates
// and needs to know which one this client can verify; TLS has an extension for that,
// which Go does not send. The other way round Go's server does say what it trusts.
func serverName(name string, fingerprints ...string) string {
	hints := make([]string, len(fingerprints))
	for i, f := range fingerprints {
		hints[i] = f[:hintSize]
	}
	return strings.Join(hints, "-") + "." + name
}

// hinted returns whether a CA is among those in a server name.
func hinted(serverName string) func(*secret.CA) bool {
	label, _, _ := strings.Cut(serverName, ".")
	hints := strings.Split(label, "-")
	return func(ca *secret.CA) bool { return slices.Contains(hints, ca.Fingerprint()[:hintSize]) }
}

// configFor returns the terms for one who connects: they depend on what he wants.
func (t *Transport) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	i := slices.IndexFunc(hello.SupportedProtos, func(p string) bool {
		return p == protoRaft || p == protoHTTP2 || p == protoHTTP1 || p == protoJoin && t.cfg.JoinHandler != nil
	})
	if i < 0 {
		return nil, fmt.Errorf("peer port: the client offers none of the known protocols, but %q", hello.SupportedProtos)
	}
	cert, err := t.certificates.For(hinted(hello.ServerName))
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*cert},
		NextProtos:             hello.SupportedProtos[i : i+1],
		Time:                   t.cfg.Now,
		SessionTicketsDisabled: true, // a resumed session would outlive the trust in its CA
	}
	if cfg.NextProtos[0] != protoJoin {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = t.cfg.Keyring.Pool()
	}
	return cfg, nil
}

// clientConfig returns the terms on which we connect to a node.
func (t *Transport) clientConfig(node, proto string) *tls.Config {
	cas := t.cfg.Keyring.CAs()
	fingerprints := make([]string, len(cas))
	for i, ca := range cas {
		fingerprints[i] = ca.Fingerprint()
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName(secret.DNSName(node), fingerprints...),
		RootCAs:    t.cfg.Keyring.Pool(),
		NextProtos: []string{proto},
		Time:       t.cfg.Now,
		GetClientCertificate: func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.certificates.For(func(ca *secret.CA) bool {
				return slices.ContainsFunc(request.AcceptableCAs, func(subject []byte) bool {
					return bytes.Equal(subject, ca.Certificate().RawSubject)
				})
			})
		},
	}
}

// dial connects to a node: at the address that is known for it, else at fallback. It has
// been verified, when dial returns, that the node at the other end is the wanted one.
func (t *Transport) dial(ctx context.Context, node, fallback, proto string) (*tls.Conn, error) {
	address, ok := t.cfg.AddressOf(node)
	if !ok {
		address = fallback
	}
	if address == "" {
		return nil, notReached(t.fail(node, "", ErrNoAddress))
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)() //nolint:contextcheck // ends with the caller or with t
	raw, err := t.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, notReached(t.fail(node, address, err))
	}
	c, ok := t.conns.dialled(raw)
	if !ok {
		return nil, notReached(t.fail(node, address, ErrClosed))
	}
	tc := tls.Client(c, t.clientConfig(node, proto))
	if err := t.provePeer(ctx, tc, c, node); err != nil {
		_ = c.Close()
		return nil, notReached(t.fail(node, address, err))
	}
	t.conns.use(c, t.metrics.connection(proto, "out"))
	return tc, nil
}

func (t *Transport) provePeer(ctx context.Context, tc *tls.Conn, c *conn, node string) error {
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	if err := t.conns.prove(c, tc.ConnectionState()); err != nil {
		return err
	}
	if c.peer != node {
		return fmt.Errorf("%w: it is %s", ErrIdentity, c.peer)
	}
	return awaitVerdict(ctx, tc)
}

// In TLS 1.3 the handshake is over for the client before the server has judged its
// certificate. Who connects would hear of a refusal while reading, or, if it was just
// writing, see a reset, which looks like a process that has died. So the server's first
// byte is a verdict, and whether a node could be reached is known when dial returns.
const (
	verdictWelcome byte = '+'
	verdictRefused byte = '-'
)

func sendVerdict(ctx context.Context, tc *tls.Conn, verdict byte) error {
	deadline, _ := ctx.Deadline()
	_ = tc.SetWriteDeadline(deadline) // fails on a closed connection, as the write does
	if _, err := tc.Write([]byte{verdict}); err != nil {
		return fmt.Errorf("answer peer: %w", err)
	}
	return tc.SetWriteDeadline(time.Time{})
}

func awaitVerdict(ctx context.Context, tc *tls.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = tc.SetReadDeadline(time.Unix(1, 0)) })
	var verdict [1]byte
	_, err := tc.Read(verdict[:])
	switch {
	case !stop():
		return ctx.Err() // also if the verdict came at the same moment: the deadline stays
	case err != nil:
		return err
	case verdict[0] != verdictWelcome:
		return ErrNotAllowed
	}
	return nil
}

// peerOf returns the node at the other end of a connection that dial returned or that
// was accepted.
func peerOf(c net.Conn) (string, error) {
	if tc, ok := c.(*tls.Conn); ok {
		if c, ok := tc.NetConn().(*conn); ok && c.peer != "" {
			return c.peer, nil
		}
	}
	return "", errors.New("no peer connection")
}
