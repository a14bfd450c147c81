package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

const (
	certificateLife = 30 * 24 * time.Hour
	// A node whose clock is a day behind must accept a certificate that was made now.
	certificateBackdate = 2 * 24 * time.Hour
	// Node certificates are replaced when less than a third of their life is left.
	certificateRenewal = certificateLife * 2 / 3

	uriScheme = "tenement"
	uriHost   = "node"
	dnsSuffix = ".node.tenement"
)

// CA is the certificate authority of a secret. Nodes with the same secret have the same,
// byte by byte: what goes into it is fixed or derived, and Ed25519 signs without chance.
type CA struct {
	key         ed25519.PrivateKey
	certificate *x509.Certificate
	fingerprint string
}

// CA derives the secret's certificate authority.
func (s Secret) CA() (*CA, error) {
	key := ed25519.NewKeyFromSeed(s.derive("ca", ed25519.SeedSize))
	pub := key.Public().(ed25519.PublicKey)
	keyID := sha256.Sum256(pub)
	// Nothing is left to a default of crypto/x509, which may change. The id in the subject
	// tells the CAs of two secrets apart where TLS names them by subject.
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "tenement cluster " + s.ID()},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		SubjectKeyId:          keyID[:20],
		SignatureAlgorithm:    x509.PureEd25519,
	}
	der, err := x509.CreateCertificate(nil, template, template, pub, key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	return &CA{key: key, certificate: cert, fingerprint: Fingerprint(cert)}, nil
}

// Certificate returns the CA's own certificate, which must not be changed.
func (c *CA) Certificate() *x509.Certificate { return c.certificate }

// Fingerprint returns the fingerprint of the CA's certificate.
func (c *CA) Fingerprint() string { return c.fingerprint }

// Fingerprint returns the SHA-256 of a certificate in 64 hex digits.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Mint makes a certificate, with a new key, by which the node proves its id both as client
// and as server. The chain it presents ends with the CA, for a joiner who knows only the
// CA's fingerprint.
func (c *CA) Mint(nodeID string, now time.Time) (*tls.Certificate, error) {
	if err := CheckNodeID(nodeID); err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: nodeID},
		URIs:                  []*url.URL{{Scheme: uriScheme, Host: uriHost, Path: "/" + nodeID}},
		DNSNames:              []string{DNSName(nodeID), "*." + DNSName(nodeID)},
		NotBefore:             now.Add(-certificateBackdate),
		NotAfter:              now.Add(certificateLife - certificateBackdate),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.certificate, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, c.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// DNSName returns the name by which TLS checks that a server is the wanted node. Each
// name one label longer is the node's too, so that a client can put a hint in front.
func DNSName(nodeID string) string { return nodeID + dnsSuffix }

// NodeID returns the id of the node that a certificate, which has been verified, is for.
func NodeID(cert *x509.Certificate) (string, error) {
	if len(cert.URIs) != 1 {
		return "", fmt.Errorf("read node certificate: it has %d URIs instead of one", len(cert.URIs))
	}
	u := cert.URIs[0]
	id, ok := strings.CutPrefix(u.Path, "/")
	if !ok || u.Scheme != uriScheme || u.Host != uriHost || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("read node certificate: its URI is not %s://%s/ID", uriScheme, uriHost)
	}
	if err := CheckNodeID(id); err != nil {
		return "", fmt.Errorf("read node certificate: %w", err)
	}
	return id, nil
}

// CheckNodeID reports whether a node's id can stand in a certificate: as a UUID can.
func CheckNodeID(id string) error {
	ok := len(id) >= 1 && len(id) <= 63 && id[0] != '-' && id[len(id)-1] != '-'
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return errors.New("node id: want 1 to 63 lower-case letters, digits and inner dashes")
	}
	return nil
}
