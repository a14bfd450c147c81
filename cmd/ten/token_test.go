package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// local makes the world one without --server: the data directory decides.
func (w *world) local() *world {
	delete(w.env, "TENEMENT_SERVER")
	delete(w.env, "TENEMENT_TOKEN")
	return w
}

// listen serves h on the world's local socket.
func (w *world) listen(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ten") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w.dir, w.env["TENEMENT_DATA_DIR"] = dir, dir
	ln, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// trusting adds a good token to every request, as the admin socket trusts its peers.
func trusting(h http.Handler, saw *[]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*saw = append(*saw, r.Header.Get("Authorization"))
		r.Header.Set("Authorization", "Bearer "+goodToken)
		h.ServeHTTP(w, r)
	})
}

func secretIn(t *testing.T, stdout string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^  (ten_[0-9a-f]{12}_\S{43})$`).FindAllStringSubmatch(stdout, -1)
	if len(m) != 1 {
		t.Fatalf("want the token alone on one line indented by two spaces, got %q", stdout)
	}
	return m[0][1]
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

func TestTokenGenBeforeTheFirstServe(t *testing.T) {
	w := newWorld(t).local()
	w.dir = filepath.Join(w.dir, "not", "yet")
	w.env["TENEMENT_DATA_DIR"] = w.dir
	stdout, stderr, code := w.run(t.Context(), "token-gen", "--description", "first", "--expires", "1h")
	if code != 0 || stderr != "No server runs on "+w.dir+": the token holds once one is started there.\n" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	secret := secretIn(t, stdout)
	id, hash, err := api.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	pending := filepath.Join(w.dir, ".ten", "pending-tokens")
	b, err := os.ReadFile(filepath.Join(pending, id+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var tok api.Token
	if err := json.Unmarshal(b, &tok); err != nil {
		t.Fatal(err)
	}
	if err := tok.Validate(); err != nil {
		t.Error(err)
	}
	want := api.Token{ID: id, Role: api.RoleAdmin, Description: "first", SHA256: hash[:], ExpiresAt: noon.Add(3600e9)}
	if !tok.Equal(&want) || !tok.CreatedAt.Equal(noon) {
		t.Errorf("pending token %+v, want %+v", tok, want)
	}
	if strings.Contains(string(b), secret[17:]) {
		t.Error("the pending file holds the secret")
	}
	saved := filepath.Join(w.dir, "api_token")
	if b, err := os.ReadFile(saved); err != nil || strings.TrimSpace(string(b)) != secret {
		t.Errorf("api_token holds %q, %v", b, err)
	}
	for path, want := range map[string]os.FileMode{
		saved: 0o600, pending: 0o700, filepath.Join(w.dir, ".ten"): 0o700, filepath.Join(pending, id+".json"): 0o600,
	} {
		if got := mode(t, path); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	for _, dir := range []string{w.dir, pending, filepath.Dir(pending)} {
		if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}

	// A tenant's token joins it and leaves api_token alone.
	stdout, _, code = w.run(t.Context(), "token-gen", "--tenant", "alice")
	if code != 0 || secretIn(t, stdout) == secret {
		t.Fatalf("tenant token: exit %d, %q", code, stdout)
	}
	if files, _ := os.ReadDir(pending); len(files) != 2 {
		t.Errorf("%d pending tokens, want 2", len(files))
	}
	if b, _ := os.ReadFile(saved); strings.TrimSpace(string(b)) != secret {
		t.Error("a tenant's token replaced the admin's")
	}
}

func TestTokenGenWhileAServerRuns(t *testing.T) {
	w := newWorld(t).local()
	var saw []string
	w.listen(t, trusting(w.server, &saw))
	if err := os.WriteFile(filepath.Join(w.dir, "api_token"), []byte("ten_old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := w.run(t.Context(), "token-gen")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	secret := secretIn(t, stdout)
	if !strings.HasPrefix(secret, "ten_000000000001_") || w.server.asked[0] != "POST /api/tokens" {
		t.Errorf("token %s after %v", secret, w.server.asked)
	}
	saved := filepath.Join(w.dir, "api_token")
	if b, err := os.ReadFile(saved); err != nil || strings.TrimSpace(string(b)) != secret || mode(t, saved) != 0o600 {
		t.Errorf("api_token holds %q with mode %o, %v", b, mode(t, saved), err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, ".ten")); err == nil {
		t.Error("a pending token was left as well")
	}
	if len(saw) != 1 || saw[0] != "" {
		t.Errorf("an old token was sent to the socket: %q", saw)
	}
	stdout, _, _ = w.run(t.Context(), "token-gen", "--json", "--tenant", "bob")
	var made api.CreatedToken
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || made.Tenant != "bob" || made.Secret == "" {
		t.Errorf("--json printed %q", stdout)
	}
}

func TestTokenGenBesideTheSocketOfADeadServer(t *testing.T) {
	w := newWorld(t).local()
	s := w.listen(t, http.NotFoundHandler())
	s.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	s.Close()
	stdout, stderr, code := w.run(t.Context(), "token-gen")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	secretIn(t, stdout)
	if files, _ := os.ReadDir(filepath.Join(w.dir, ".ten", "pending-tokens")); len(files) != 1 {
		t.Errorf("%d pending tokens, want 1", len(files))
	}
}

func TestTheLocalSocketIsPreferred(t *testing.T) {
	w := newWorld(t).local()
	var saw []string
	w.listen(t, trusting(w.server, &saw))
	if _, stderr, code := w.run(t.Context(), "service", "list"); code != 0 || len(saw) != 1 {
		t.Fatalf("exit %d, %d requests: %s", code, len(saw), stderr)
	}
	// One that was named wins, whatever lies in the data directory.
	w.env["TENEMENT_SERVER"], w.env["TENEMENT_TOKEN"] = w.url, goodToken
	if _, stderr, code := w.run(t.Context(), "service", "list"); code != 0 || len(saw) != 1 {
		t.Fatalf("exit %d, %d requests: %s", code, len(saw), stderr)
	}
}

func TestTheSavedTokenStaysOnThisMachine(t *testing.T) {
	w := newWorld(t)
	delete(w.env, "TENEMENT_TOKEN")
	if err := os.WriteFile(filepath.Join(w.dir, "api_token"), []byte(goodToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := w.run(t.Context(), "ps"); code != 0 {
		t.Errorf("on 127.0.0.1: exit %d: %s", code, stderr)
	}
	for name, local := range map[string]bool{
		"http://localhost:8080": true, "http://a.localhost": true, "http://127.9.9.9:1": true, "http://[::1]:8080": true,
		"unix:///a": true, "http://10.0.0.1:8080": false, "https://tenement.example.com": false,
		"http://127.0.0.1.example.com": false, "http://localhost.example.com": false, "://": false,
	} {
		if got := isLocal(name); got != local {
			t.Errorf("isLocal(%q) = %v, want %v", name, got, local)
		}
	}
}

func TestServerNames(t *testing.T) {
	w := newWorld(t)
	a := w.app(nil, nil)
	a.servers = []string{"10.0.0.1:8080", " https://b/ ", "/run/ten.sock", ""}
	if got := strings.Join(a.serverNames(), " "); got != "http://10.0.0.1:8080 https://b/ unix:///run/ten.sock" {
		t.Errorf("got %s", got)
	}
	a.servers, w.env["TENEMENT_SERVER"] = nil, "a,b"
	if got := strings.Join(a.serverNames(), " "); got != "http://a http://b" {
		t.Errorf("got %s", got)
	}
	delete(w.env, "TENEMENT_SERVER")
	if got := a.endpoints(); len(got) != 1 || got[0] != defaultServer {
		t.Errorf("got %v", got)
	}
}
