package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
)

// At returns an HTTP client whose requests all go to an address, whichever node of the
// cluster that is: for a server that knows where to ask, but not yet whom. Each request
// has a connection of its own. Errors are as those of [Transport.Client].
func (t *Transport) At(address string) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := t.dialAny(ctx, address)
				if err != nil {
					return nil, err
				}
				return c, nil
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialAny connects to whoever has the address, for HTTP/1.1, and has verified, when it
// returns, that it is a node of this cluster.
func (t *Transport) dialAny(ctx context.Context, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)() //nolint:contextcheck // ends with the caller or with t
	raw, err := t.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, notReached(t.fail("", address, err))
	}
	c, ok := t.conns.dialled(raw)
	if !ok {
		return nil, notReached(t.fail("", address, ErrClosed))
	}
	tc := tls.Client(c, t.anyConfig())
	if err := t.proveAny(ctx, tc, c); err != nil {
		_ = c.Close()
		return nil, notReached(t.fail("", address, err))
	}
	t.conns.use(c, t.metrics.connection(protoHTTP1, "out"))
	return tc, nil
}

// anyConfig accepts any name, for TLS can't do without one otherwise; proveAny verifies
// what clientConfig would, but for that.
func (t *Transport) anyConfig() *tls.Config {
	cfg := t.clientConfig("any", protoHTTP1)
	cfg.InsecureSkipVerify = true
	return cfg
}

func (t *Transport) proveAny(ctx context.Context, tc *tls.Conn, c *conn) error {
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	state := tc.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	chains, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: t.cfg.Keyring.Pool(), Intermediates: between, CurrentTime: t.cfg.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	state.VerifiedChains = chains
	if err := t.conns.prove(c, state); err != nil {
		return err
	}
	return awaitVerdict(ctx, tc)
}

// notReached marks an error as one of making a connection: nothing was sent over it.
func notReached(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Dial = true
	}
	return err
}

// DialHTTP2 is [Transport.DialHTTP1] for HTTP/2: the protocol is agreed on, and what the
// connection carries is plain to its user.
func (t *Transport) DialHTTP2(ctx context.Context, nodeID string) (net.Conn, error) {
	c, err := t.dial(ctx, nodeID, "", protoHTTP2)
	if err != nil {
		return nil, err
	}
	return plain{c}, nil
}
