package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// answer is what a raw request got.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem api.Problem // when the status says that there is one
}

// raw sends a request as somebody with a terminal would, byte by byte, and reads the answer.
func (s *ten) raw(ctx context.Context, token, head, body string) (a answer, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr())
	if err != nil {
		return a, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	line, headers, _ := strings.Cut(head, "\n")
	if headers != "" {
		headers = strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n"
	}
	text := fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %s\r\n%s", line, token, headers)
	if body != "" {
		text += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, text+"\r\n"+body); err != nil {
		return a, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	a = answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if err == nil && a.status >= 400 {
		err = json.Unmarshal(b, &a.problem)
	}
	return a, err
}

// admin makes an admin token.
func (s *ten) admin() string {
	s.t.Helper()
	s.run("token-gen")
	b, err := os.ReadFile(filepath.Join(s.dataDir, "api_token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// TestRawAPI declares, changes, watches and deletes a service and an instance by plain
// HTTP, with every guard on the way.
func TestRawAPI(t *testing.T) {
	t.Parallel()
	s := startTen(t, "")
	token := s.admin()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	do := func(status int, head, body string) answer {
		t.Helper()
		a, err := s.raw(ctx, token, head, body)
		if err != nil {
			t.Fatalf("%s: %v", head, err)
		}
		if a.status != status {
			t.Fatalf("%s: got %d %s, want %d", head, a.status, a.body, status)
		}
		return a
	}
	spec := fmt.Sprintf(`{"command": %q, "isolation": "process", "spawn_on_request": true}`, appBinary)

	created := do(200, "PUT /api/services/web\nIf-Match: \"0\"", spec)
	etag := created.header.Get("ETag")
	if again := do(200, "PUT /api/services/web", spec); again.header.Get("ETag") != etag {
		t.Errorf("the same once more changed the revision: %s became %s", etag, again.header.Get("ETag"))
	}
	if a := do(412, "PUT /api/services/web\nIf-Match: \"0\"", spec); a.problem.Code != api.CodeStaleRevision || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("create what exists: %s %s", a.header.Get("Content-Type"), a.body)
	}
	a := do(400, "PUT /api/services/web", `{"command": "x", "isolation": "nonsense", "max_instances": -1}`)
	if len(a.problem.Fields) != 2 || !strings.Contains(a.body, "nonsense") || !strings.Contains(a.body, "max_instances") {
		t.Errorf("bad fields: %s", a.body)
	}

	// A blocking query answers when the change comes, not before and not much later.
	index := created.header.Get("X-Tenement-Index")
	blocked := make(chan answer, 1)
	go func() {
		a, err := s.raw(ctx, token, "GET /api/services/web?index="+index+"&wait=60s", "")
		if err != nil {
			t.Errorf("blocking query: %v", err)
		}
		blocked <- a
	}()
	changed := do(200, "PUT /api/services/web\nIf-Match: "+etag, strings.Replace(spec, "{", `{"idle_timeout": 60,`, 1))
	if a := <-blocked; a.status != 200 || a.header.Get("ETag") != changed.header.Get("ETag") {
		t.Errorf("blocking query: %d, ETag %s; want %s", a.status, a.header.Get("ETag"), changed.header.Get("ETag"))
	}
	do(412, "DELETE /api/services/web\nIf-Match: "+etag, "")

	do(404, "GET /api/instances/web:one", "")
	do(200, "PUT /api/instances/web:one", `{"desired": "asleep", "weight": 7}`)
	s.want("one.web.localhost", "/", "one")
	var in api.Instance
	if a := do(200, "GET /api/instances/web:one", ""); json.Unmarshal([]byte(a.body), &in) != nil || in.EffectiveWeight() != 7 || in.State() != api.StateRunning {
		t.Errorf("instance: %s", a.body)
	}
	if a := do(200, "GET /api/instances/web:one/storage", ""); !strings.Contains(a.body, filepath.Join(s.dataDir, "web", "one")) {
		t.Errorf("storage: %s", a.body)
	}
	s.want("two.web.localhost", "/", "two")

	deleted := do(204, "DELETE /api/services/web", "")
	do(404, "GET /api/services/web", "")
	do(404, "GET /api/instances/web:one", "")
	if status, _ := s.get("one.web.localhost", "/"); status != 404 {
		t.Errorf("its host: %d, want 404", status)
	}
	before, _ := strconv.Atoi(index)
	if after, err := strconv.Atoi(deleted.header.Get("X-Tenement-Index")); err != nil || after <= before {
		t.Errorf("index %d after %d", after, before)
	}
	waitGone(t, in.Observed.PID)
	if a, err := s.raw(ctx, "ten_000000000000_x", "GET /api/services", ""); err != nil || a.status != 401 || a.problem.Code != api.CodeUnauthenticated {
		t.Errorf("a wrong token: %+v, %v", a, err)
	}
}
