package secret

import (
	"crypto/tls"
	"sync"
	"time"
)

// Certificates are one node's certificates, one for each secret of its keyring. They are
// renewed when they are asked for: TLS asks at every handshake.
type Certificates struct {
	keyring *Keyring
	nodeID  string
	now     func() time.Time

	mu     sync.Mutex
	minted map[string]*tls.Certificate // by the CA's fingerprint
}

// NewCertificates returns the certificates of the node with the given id.
func NewCertificates(k *Keyring, nodeID string, now func() time.Time) (*Certificates, error) {
	if err := CheckNodeID(nodeID); err != nil {
		return nil, err
	}
	return &Certificates{keyring: k, nodeID: nodeID, now: now, minted: map[string]*tls.Certificate{}}, nil
}

// For returns the node's certificate of the first CA that trusted accepts, or of the
// primary one if it accepts none.
func (c *Certificates) For(trusted func(*CA) bool) (*tls.Certificate, error) {
	cas := c.keyring.CAs()
	ca := cas[0]
	for _, candidate := range cas {
		if trusted(candidate) {
			ca = candidate
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if cert := c.minted[ca.fingerprint]; cert != nil && fresh(cert, now) {
		return cert, nil
	}
	cert, err := ca.Mint(c.nodeID, now)
	if err != nil {
		return nil, err
	}
	// Those of removed secrets go with the next that is made.
	keep := map[string]*tls.Certificate{ca.fingerprint: cert}
	for _, other := range cas {
		if old := c.minted[other.fingerprint]; old != nil && other != ca {
			keep[other.fingerprint] = old
		}
	}
	c.minted = keep
	return cert, nil
}

// fresh reports whether a certificate need not be replaced yet. One from the future was
// made before the clock was put right.
func fresh(cert *tls.Certificate, now time.Time) bool {
	age := now.Sub(cert.Leaf.NotBefore)
	return age >= 0 && age < certificateRenewal
}
