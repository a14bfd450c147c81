package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// MintWeb makes a certificate, with a new key, for a port that users' programs talk to:
// it names hosts, and nothing that the peer port would take for a node. Names that are
// addresses become such.
func (c *CA) MintWeb(names []string, now time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		NotBefore:             now.Add(-certificateBackdate),
		NotAfter:              now.Add(certificateLife - certificateBackdate),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if err := CheckWebName(name); err != nil {
			return nil, fmt.Errorf("make web certificate: %w", err)
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	if len(names) == 0 {
		return nil, errors.New("make web certificate: it would be for no name")
	}
	// No common name: it may be longer than one can be, and nobody reads it.
	template.Subject = pkix.Name{Organization: []string{"tenement"}}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make web certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.certificate, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("make web certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make web certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, c.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// CheckWebName reports whether a DNS name, or a wildcard, may stand in a web certificate:
// not one by which nodes know each other.
func CheckWebName(name string) error {
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	ok := len(name) <= 253
	for _, l := range labels {
		ok = ok && len(l) >= 1 && len(l) <= 63 && l[0] != '-' && l[len(l)-1] != '-'
		for _, c := range []byte(l) {
			ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}
	}
	switch {
	case !ok:
		return fmt.Errorf("%q is no DNS name in lower case, nor an address", name)
	case strings.HasSuffix("."+name, dnsSuffix):
		return fmt.Errorf("%q is for nodes among themselves", name)
	}
	return nil
}

// WebCertificates are the web certificates of one node. They are signed by the primary
// secret's CA, and renewed when they are asked for: TLS asks at every handshake.
type WebCertificates struct {
	keyring *Keyring
	names   []string
	now     func() time.Time

	mu     sync.Mutex
	minted *tls.Certificate
	by     *CA
}

// NewWebCertificates returns certificates for the given DNS names and addresses.
func NewWebCertificates(k *Keyring, names []string, now func() time.Time) *WebCertificates {
	return &WebCertificates{keyring: k, names: names, now: now}
}

// Get returns the certificate to present.
func (w *WebCertificates) Get() (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ca, now := w.keyring.CAs()[0], w.now()
	if w.minted != nil && w.by == ca && fresh(w.minted, now) {
		return w.minted, nil
	}
	cert, err := ca.MintWeb(w.names, now)
	if err != nil {
		return nil, err
	}
	w.minted, w.by = cert, ca
	return cert, nil
}

// PEM returns the certificates of all CAs, the primary's first, for whoever is to trust
// what they sign. They are no secret.
func (k *Keyring) PEM() []byte {
	var out []byte
	for _, ca := range k.CAs() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw})...)
	}
	return out
}
