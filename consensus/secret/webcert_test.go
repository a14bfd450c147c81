package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWebCertificate(t *testing.T) {
	ca, err := fixed(1).CA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.MintWeb([]string{"localhost", "*.example.com", "127.0.0.1", "::1"}, start)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := NodeID(cert.Leaf); err == nil {
		t.Errorf("it is the node %q to the peer port", id)
	}
	if want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}; !slices.Equal(cert.Leaf.ExtKeyUsage, want) {
		t.Errorf("usages: got %v, want %v", cert.Leaf.ExtKeyUsage, want)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	verify := func(name string, at time.Time, usage x509.ExtKeyUsage) error {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	for _, name := range []string{"localhost", "a.example.com", "127.0.0.1", "::1"} {
		if err := verify(name, start, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	day := 24 * time.Hour
	for what, err := range map[string]error{
		"another name":   verify("example.com", start, x509.ExtKeyUsageServerAuth),
		"as a client":    verify("localhost", start, x509.ExtKeyUsageClientAuth),
		"after its life": verify("localhost", start.Add(30*day), x509.ExtKeyUsageServerAuth),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if err := verify("localhost", start.Add(-day), x509.ExtKeyUsageServerAuth); err != nil {
		t.Errorf("a client whose clock is a day behind: %v", err)
	}
}

func TestWebNamesThatAreRefused(t *testing.T) {
	ca, err := fixed(1).CA()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"", "*", "*.", "a..b", "A", "a b", "-a", "a-", "a.*", "*.*.a", "a/b", "a:1", "ä", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
		DNSName(nodeID), "*." + DNSName(nodeID), "*.node.tenement", "node.tenement",
	} {
		if _, err := ca.MintWeb([]string{"localhost", name}, start); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if _, err := ca.MintWeb(nil, start); err == nil {
		t.Error("a certificate for nobody")
	}
}

func TestWebCertificatesAreRenewed(t *testing.T) {
	now, k := start, keyring(t, fixed(1))
	certs := NewWebCertificates(k, []string{"localhost", net.IPv6loopback.String()}, func() time.Time { return now })
	get := func() *x509.Certificate {
		t.Helper()
		c, err := certs.Get()
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	first := get()
	now = first.NotBefore.Add(certificateRenewal - time.Second)
	if get() != first {
		t.Error("renewed before two thirds of its life")
	}
	now = now.Add(time.Second)
	second := get()
	if second == first || !second.NotAfter.After(first.NotAfter) {
		t.Error("not renewed after two thirds of its life")
	}
	now = start.Add(-3 * 24 * time.Hour)
	if third := get(); third == second {
		t.Error("not made anew when the clock was put back")
	}
	now = start
	byOld := get()
	if err := k.Add(fixed(2)); err != nil {
		t.Fatal(err)
	}
	if get() != byOld {
		t.Error("a secret that is not in use signs")
	}
	if got := bytes.Count(k.PEM(), []byte("BEGIN CERTIFICATE")); got != 2 {
		t.Errorf("%d CAs to trust while the secret is replaced, want 2", got)
	}
	if err := k.Use(fixed(2).ID()); err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(k.PEM())
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(rest) == 0 {
		t.Fatal(err)
	}
	if err := get().CheckSignatureFrom(ca); err != nil {
		t.Errorf("not signed by the CA of the secret in use: %v", err)
	}
}
