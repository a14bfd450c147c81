package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tenement-fleet/tenement/api"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The secrets of the tokens that every test's cluster holds.
var secrets = map[string]string{
	"admin": fakeSecret("aaaaaaaaaaaa"), "tenant alice": fakeSecret("bbbbbbbbbbbb"), "tenant bob": fakeSecret("cccccccccccc"),
}

// sesame is the value of the secret variable that every service of the fixture has.
const sesame = "open-sesame"

func fakeSecret(id string) string {
	s, _, _, err := api.NewSecret(strings.NewReader(strings.Repeat(id[:1], 38)))
	if err != nil {
		panic(err)
	}
	return s
}

// fixture is a Server over fakes, with services notes and filed, and instances
// notes:alice (running), notes:bob (asleep) and filed:alice.
type fixture struct {
	*Server
	cluster *fakeCluster
	runtime *fakeRuntime
	logs    *fakeLogs
	members *fakeMembers
	now     time.Time
	audit   *syncBuffer
}

var (
	alice = api.Ref{Service: "notes", ID: "alice"}
	bob   = api.Ref{Service: "notes", ID: "bob"}
)

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{cluster: newFakeCluster(), logs: &fakeLogs{live: make(chan api.LogEntry)}, audit: &syncBuffer{}}
	f.now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.runtime = &fakeRuntime{cluster: f.cluster, fails: map[api.Ref]error{}, hangs: map[api.Ref]bool{}, fresher: map[api.Ref]*api.Observed{}}
	f.members = &fakeMembers{cluster: f.cluster}
	f.cluster.onInstance = func(i *api.Instance) {
		if i.Desired != api.DesiredRunning {
			f.cluster.report(i.Ref(), api.Observed{State: api.State(i.Desired)})
		}
	}
	cfg := Config{
		NodeID: thisNode, Version: "test", Cluster: f.cluster, Runtime: f.runtime, Logs: f.logs, Members: f.members,
		Registry: prometheus.NewRegistry(), Logger: slog.New(slog.NewJSONHandler(f.audit, nil)),
		Now: func() time.Time { return f.now }, Rand: strings.NewReader(strings.Repeat("x", 1<<16)),
		Provider: fakeProvider{}, CA: func() []byte { return []byte("a certificate") },
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if f.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.fill(t)
	return f
}

func (f *fixture) fill(t testing.TB) {
	ctx := context.Background()
	var errs []error
	for _, name := range []string{"notes", "filed"} {
		source := api.SourceAPI
		if name == "filed" {
			source = api.SourceFile
		}
		s := &api.Service{Name: name, Command: "run", Source: source, StorageQuota: 2 * api.MiB}
		s.Env, s.SecretEnv = map[string]string{"KEY": "hunter2", "PASSWORD": sesame}, []string{"PASSWORD"}
		s.SetDefaults()
		_, err := f.cluster.PutService(ctx, s, nil)
		errs = append(errs, err)
	}
	for _, i := range []*api.Instance{
		{Service: "notes", ID: "alice"},
		{Service: "notes", ID: "bob", Desired: api.DesiredAsleep},
		{Service: "filed", ID: "alice", Source: api.SourceFile},
	} {
		i.SetDefaults()
		_, err := f.cluster.PutInstance(ctx, i, nil)
		errs = append(errs, err)
	}
	f.cluster.report(alice, api.Observed{State: api.StateRunning, Healthy: true, PID: 41})
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		secret := secrets[name]
		id, _, err := api.ParseSecret(secret)
		hash := sha256.Sum256([]byte(secret))
		tok := &api.Token{ID: id, SHA256: hash[:]}
		_, tok.Tenant, _ = strings.Cut(name, " ")
		tok.SetDefaults()
		_, putErr := f.cluster.PutToken(ctx, tok, nil)
		errs = append(errs, err, putErr)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// request makes a request, by role, with a JSON body unless body is "".
func request(role, method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	switch role {
	case "", "local":
	case "bad token":
		r.Header.Set("Authorization", "Bearer "+fakeSecret("dddddddddddd"))
	default:
		r.Header.Set("Authorization", "Bearer "+secrets[role])
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// admin makes a request as admin and decodes the answer, which must have the status.
func (f *fixture) admin(t *testing.T, status int, method, path, body string, into any, headers ...string) http.Header {
	t.Helper()
	w := f.do(request("admin", method, path, body, headers...))
	if w.Code != status {
		t.Fatalf("%s %s: got %d %s, want %d", method, path, w.Code, w.Body, status)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return w.Header()
}

// syncBuffer is a buffer that several goroutines may write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// take returns what was written since the last take.
func (b *syncBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.buf.String()
	b.buf.Reset()
	return s
}

// closeNow closes c; an error fails the test.
func closeNow(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
