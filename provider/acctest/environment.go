package acctest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// Environment returns what a program of the service is started with, as it says itself:
// nobody else is told the values of secret variables. The instance that it takes is gone
// afterwards.
func (c *Cluster) Environment(t *testing.T, service string) map[string]string {
	t.Helper()
	ref := api.Ref{Service: service, ID: "environment"}
	if _, err := c.Client.Spawn(t.Context(), ref); err != nil {
		t.Fatalf("start a program of %s: %v", service, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Endpoints[0]+"/env", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Close = ref.ID+"."+ref.Service+".localhost", true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("ask %s for its environment: %s %s, %v", ref, resp.Status, text, err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	if err := c.Client.Purge(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	return env
}
