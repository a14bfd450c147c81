package secret

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const nodeID = "6f1e0c3a-9d4e-4a57-8a43-0d0f3a9d1b11"

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestCAIsTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySecret().Draw(t, "a"), anySecret().Draw(t, "b")
		ca, err := a.CA()
		again, err2 := a.CA()
		other, err3 := b.CA()
		if err != nil || err2 != nil || err3 != nil {
			t.Fatal(err, err2, err3)
		}
		if !ca.Certificate().Equal(again.Certificate()) || ca.Fingerprint() != again.Fingerprint() {
			t.Fatal("one secret, two CAs")
		}
		if a != b && (ca.Fingerprint() == other.Fingerprint() ||
			slices.Equal(ca.Certificate().RawSubject, other.Certificate().RawSubject)) {
			t.Fatal("two secrets, one CA")
		}
	})
}

func TestNodeCertificate(t *testing.T) {
	ca, err := fixed(1).CA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Mint(nodeID, start)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := NodeID(cert.Leaf); err != nil || id != nodeID || cert.Leaf.Subject.CommonName != nodeID {
		t.Errorf("got the id %q, %v, and the subject %s", id, err, cert.Leaf.Subject)
	}
	if len(cert.Certificate) != 2 || !slices.Equal(cert.Certificate[1], ca.Certificate().Raw) {
		t.Error("the chain does not end with the CA")
	}
	other, err := fixed(2).CA()
	if err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		ca   *CA
		name string
		use  x509.ExtKeyUsage
		now  time.Time
		ok   bool
	}{
		"server":            {ca, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start, true},
		"client":            {ca, "", x509.ExtKeyUsageClientAuth, start, true},
		"with a hint":       {ca, "abc-def." + DNSName(nodeID), x509.ExtKeyUsageServerAuth, start, true},
		"clock a day slow":  {ca, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start.Add(-day), true},
		"before its time":   {ca, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start.Add(-2*day - time.Second), false},
		"a day to the end":  {ca, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start.Add(27 * day), true},
		"after its time":    {ca, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start.Add(28*day + time.Second), false},
		"other CA":          {other, DNSName(nodeID), x509.ExtKeyUsageServerAuth, start, false},
		"other node":        {ca, DNSName("other"), x509.ExtKeyUsageServerAuth, start, false},
		"neither use":       {ca, DNSName(nodeID), x509.ExtKeyUsageCodeSigning, start, false},
		"name of the world": {ca, "example.com", x509.ExtKeyUsageServerAuth, start, false},
	} {
		roots := x509.NewCertPool()
		roots.AddCert(c.ca.Certificate())
		_, err := cert.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, DNSName: c.name, CurrentTime: c.now, KeyUsages: []x509.ExtKeyUsage{c.use},
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNodeIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		nodeID: true, "a": true, "node-1": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "a b": false, "*": false, strings.Repeat("a", 64): false,
	} {
		if err := CheckNodeID(id); (err == nil) != ok {
			t.Errorf("%q: got %v", id, err)
		}
	}
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, uris := range [][]*url.URL{
		nil,
		{parse("tenement://node/a"), parse("tenement://node/b")},
		{parse("https://node/a")},
		{parse("tenement://other/a")},
		{parse("tenement://node/a?x=1")},
		{parse("tenement://node/a/b")},
		{parse("tenement://node")},
		{parse("tenement:a")},
	} {
		if id, err := NodeID(&x509.Certificate{URIs: uris}); err == nil {
			t.Errorf("%v gave the id %q", uris, id)
		}
	}
}

func TestRenewal(t *testing.T) {
	now := start
	k := keyring(t, fixed(1))
	certs, err := NewCertificates(k, nodeID, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	get := func() *tls.Certificate {
		t.Helper()
		c, err := certs.For(func(*CA) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	day := 24 * time.Hour
	first := get()
	now = start.Add(18*day - time.Second)
	if get() != first {
		t.Error("renewed before two thirds of its life")
	}
	now = start.Add(18 * day)
	second := get()
	if second == first || !second.Leaf.NotAfter.Equal(now.Add(28*day)) {
		t.Error("not renewed at two thirds of its life")
	}
	now = start.Add(-10 * day)
	if get() == second {
		t.Error("a certificate of the future is kept")
	}
	// A change of the secret is followed at once, and what the other side trusts decides.
	if err := k.Add(fixed(2)); err != nil {
		t.Fatal(err)
	}
	of := func(s Secret) func(*CA) bool {
		ca, err := s.CA()
		if err != nil {
			t.Fatal(err)
		}
		return func(c *CA) bool { return c.Fingerprint() == ca.Fingerprint() }
	}
	old, err := certs.For(of(fixed(1)))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := certs.For(of(fixed(2)))
	if err != nil || old == fresh || get() != old {
		t.Errorf("the wrong certificate was chosen, %v", err)
	}
	if err := k.Use(fixed(2).ID()); err != nil {
		t.Fatal(err)
	}
	if get() != fresh {
		t.Error("the primary secret's certificate is not the default")
	}
	if err := k.Remove(fixed(1).ID()); err != nil {
		t.Fatal(err)
	}
	if c, err := certs.For(of(fixed(1))); err != nil || c != fresh {
		t.Errorf("a removed secret's certificate is still shown, %v", err)
	}
	if _, err := NewCertificates(k, "Not A Node", time.Now); err == nil {
		t.Error("certificates for a bad id")
	}
}
