package servertest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/servertest"
)

// The test binary is handed out here: of no version, for this platform.
const packagePath = api.RegistryProviders + "tenement/ten/0.0.1/download/" + runtime.GOOS + "/" + runtime.GOARCH

// offer is all that a node says of the provider, and the files.
type offer struct {
	pack                 api.RegistryPackage
	archive, sums, signs string
}

func offerOf(n *servertest.Node) (o offer, err error) {
	get := func(path string) string {
		status, body, getErr := n.Get("localhost", path)
		if getErr != nil || status != http.StatusOK {
			err = errors.Join(err, getErr, fmt.Errorf("GET %s: %d %s", path, status, body[:min(len(body), 200)]))
		}
		return body
	}
	if text := get(packagePath); err == nil {
		err = json.Unmarshal([]byte(text), &o.pack)
	}
	if err != nil {
		return o, err
	}
	o.archive, o.sums, o.signs = get(o.pack.DownloadURL), get(o.pack.ShasumsURL), get(o.pack.SignatureURL)
	return o, err
}

// everybody asks all nodes at once.
func everybody(t *testing.T, nodes []*servertest.Node) []offer {
	t.Helper()
	offers, errs := make([]offer, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { offers[i], errs[i] = offerOf(n) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return offers
}

// Three nodes that are asked for the first time at the same moment agree on one key, and
// hand out the same bytes. A rotation of the cluster's secret changes the CA of the TLS
// port under the running servers, and neither the key nor anything that it signed.
func TestProviderOfThreeNodes(t *testing.T) {
	port := freePort(t)
	first := servertest.Start(t, servertest.Config{
		Name: "n1", Logger: testLogger(t),
		TOML: fmt.Sprintf("[settings]\ntls_port = %s\ntls_names = [\"ten.example.com\"]\n", port),
	})
	nodes := []*servertest.Node{first}
	for _, name := range []string{"n2", "n3"} {
		nodes = append(nodes, servertest.Start(t, servertest.Config{Name: name, Logger: testLogger(t), Join: nodes}))
	}
	offers := everybody(t, nodes)
	before := offers[0]
	checkSignature(t, before)
	for i, o := range offers {
		if o.pack.SigningKeys.GPG[0] != before.pack.SigningKeys.GPG[0] || o.archive != before.archive || o.sums != before.sums || o.signs != before.signs {
			t.Errorf("node %d hands out something else: key %s, not %s; package %s, not %s",
				i+1, o.pack.SigningKeys.GPG[0].KeyID, before.pack.SigningKeys.GPG[0].KeyID, o.pack.Shasum, before.pack.Shasum)
		}
	}
	oldCA := caOf(t, first)
	status := tlsStatus(t, first)
	if !status.Enabled || len(status.Certificates) != 1 || status.Certificates[0].NotAfter.Before(time.Now().Add(27*24*time.Hour)) {
		t.Errorf("got %+v", status)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "n1", "ten.example.com"} {
		if got, err := overTLS(port, host, "/.well-known/terraform.json", oldCA); err != nil || !strings.Contains(got, api.RegistryProviders) {
			t.Errorf("as %s: got %q, %v", host, got, err)
		}
	}
	if _, err := overTLS(port, "example.com", "/", oldCA); err == nil {
		t.Error("the certificate is good for any name")
	}

	rotate(t, first)
	newCA := caOf(t, first)
	if bytes.Equal(oldCA, newCA) {
		t.Fatal("the CA is the same after the rotation")
	}
	if _, err := overTLS(port, "localhost", "/health", newCA); err != nil {
		t.Errorf("the TLS port still has the old secret's certificate: %v", err)
	}
	if _, err := overTLS(port, "localhost", "/health", oldCA); err == nil {
		t.Error("the TLS port's certificate is good for those who trust the old secret")
	}
	// One that has only ever had the new secret.
	nodes = append(nodes, servertest.Start(t, servertest.Config{Name: "n4", Logger: testLogger(t), Join: nodes}))
	for i, o := range everybody(t, nodes) {
		if o.pack.SigningKeys.GPG[0] != before.pack.SigningKeys.GPG[0] || o.sums != before.sums || o.signs != before.signs {
			t.Errorf("after the rotation node %d has another key or signs another thing", i+1)
		}
	}
	rotate(t, nodes[3]) // and once more, so that the first secret is long gone
	for i, o := range everybody(t, nodes) {
		if o.signs != before.signs {
			t.Errorf("after two rotations node %d signs with another key", i+1)
		}
	}
}

func checkSignature(t *testing.T, o offer) {
	t.Helper()
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(o.pack.SigningKeys.GPG[0].Armor))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openpgp.CheckDetachedSignature(ring, strings.NewReader(o.sums), strings.NewReader(o.signs), nil); err != nil {
		t.Errorf("signature: %v", err)
	}
	if !strings.Contains(o.sums, o.pack.Shasum+"  "+o.pack.Filename) {
		t.Errorf("the package %s is not in %s", o.pack.Filename, o.sums)
	}
}

func rotate(t *testing.T, n *servertest.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := n.Client.RotateSecret(ctx); err != nil {
		t.Fatal(err)
	}
	for s, err := range n.Client.WatchSecret(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Complete {
			break
		}
	}
	k, err := secret.Load(server.SecretPath(n.DataDir))
	if err != nil || len(k.IDs()) != 1 {
		t.Fatalf("the node has the secrets %v, %v", k.IDs(), err)
	}
}

func caOf(t *testing.T, n *servertest.Node) []byte {
	t.Helper()
	ca, err := n.Client.CA(t.Context())
	if err != nil || bytes.Count(ca, []byte("BEGIN CERTIFICATE")) != 1 {
		t.Fatalf("got %s, %v", ca, err)
	}
	return ca
}

func tlsStatus(t *testing.T, n *servertest.Node) (out api.TLSStatus) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/tls/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := adminSocket(n).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func adminSocket(n *servertest.Node) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", n.DataDir+"/ten.sock")
	}}}
}

// overTLS asks a TLS port, under a name, trusting one CA.
func overTLS(port, host, path string, ca []byte) (string, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return "", errors.New("no certificate to trust")
	}
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", "127.0.0.1:"+port)
		},
	}}
	resp, err := c.Get("https://" + net.JoinHostPort(host, port) + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, b)
	}
	return string(b), err
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// A cluster that was given the state of another one can't read what that one sealed. It
// makes itself another key, and its secret can still be replaced.
func TestSigningKeyOfAnotherCluster(t *testing.T) {
	one, two := servertest.Start(t, servertest.Config{Name: "one"}), servertest.Start(t, servertest.Config{Name: "two"})
	first := everybody(t, []*servertest.Node{one})[0]
	var snapshot bytes.Buffer
	size, err := one.Client.SaveSnapshot(t.Context(), &snapshot)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		if err := two.Client.RestoreSnapshot(t.Context(), bytes.NewReader(snapshot.Bytes()), size, true); err != nil {
			t.Fatal(err)
		}
		if err := two.Client.RemoveNode(t.Context(), one.ID, true); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	second := everybody(t, []*servertest.Node{two})[0]
	checkSignature(t, second)
	if second.pack.SigningKeys.GPG[0].KeyID == first.pack.SigningKeys.GPG[0].KeyID {
		t.Error("it has the other cluster's key")
	}
	restore()
	rotate(t, two) // before anybody has asked for the key
	checkSignature(t, everybody(t, []*servertest.Node{two})[0])
}

// A snapshot from before the secret was replaced says nothing of the secret that the
// cluster has now: it must not make its servers follow a rotation that is long over.
func TestRestoreFromBeforeARotation(t *testing.T) {
	for _, rotations := range []int{0, 1} { // before the snapshot
		n := servertest.Start(t, servertest.Config{})
		checkSignature(t, everybody(t, []*servertest.Node{n})[0])
		for range rotations {
			rotate(t, n)
		}
		var snapshot bytes.Buffer
		size, err := n.Client.SaveSnapshot(t.Context(), &snapshot)
		if err != nil {
			t.Fatal(err)
		}
		rotate(t, n)
		if err := n.Client.RestoreSnapshot(t.Context(), &snapshot, size, false); err != nil {
			t.Fatal(err)
		}
		if s, err := n.Client.Secret(t.Context()); err != nil || !s.Complete {
			t.Errorf("after the restore the rotation is %+v, %v", s, err)
		}
		checkSignature(t, everybody(t, []*servertest.Node{n})[0])
		rotate(t, n)
		checkSignature(t, everybody(t, []*servertest.Node{n})[0])
	}
}
