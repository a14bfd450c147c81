package health

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func serve(t *testing.T, network, address string, h http.Handler) api.Endpoint {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return api.Endpoint{Network: network, Address: l.Addr().String()}
}

func TestCheck(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "localhost" || r.Header.Get("User-Agent") != "tenement-health" || !r.Close {
			t.Errorf("got host %q, agent %q, close %v", r.Host, r.UserAgent(), r.Close)
		}
		_, _ = io.WriteString(w, "fine")
	})
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("deep") != "1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/ok", http.StatusFound)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	endpoints := []api.Endpoint{
		serve(t, "tcp", "127.0.0.1:0", mux),
		serve(t, "unix", filepath.Join(t.TempDir(), "s"), mux),
	}
	for _, tc := range []struct{ path, want string }{
		{"", ""},
		{"/ok", ""},
		{"/query?deep=1", ""},
		{"/early", ""},
		{"/endless", ""},
		{"/moved", "get /moved: status 302, want 200"},
		{"/empty", "get /empty: status 204, want 200"},
		{"/sick", "get /sick: status 503, want 200"},
		{"/nowhere", "get /nowhere: status 404, want 200"},
		{"/%zz", `get /%zz: parse "http://localhost/%zz": invalid URL escape "%zz"`},
	} {
		for _, ep := range endpoints {
			t.Run(ep.Network+tc.path, func(t *testing.T) {
				got := ""
				if err := NewChecker(CheckerConfig{}).Check(t.Context(), ep, tc.path); err != nil {
					got = err.Error()
				}
				if got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			})
		}
	}
}

// raw answers every connection with text, and closes it unless hold.
func raw(t *testing.T, text string, hold bool) api.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			if hold {
				conns = append(conns, c)
			} else {
				_, _ = c.Read(make([]byte, 4096))
				_ = c.Close()
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return api.Endpoint{Network: "tcp", Address: l.Addr().String()}
}

func TestCheckBadAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		hold bool
		want string
	}{
		"silence":  {"", true, "no answer within 100ms"},
		"closed":   {"", false, "read answer: unexpected EOF"},
		"not http": {"SSH-2.0-OpenSSH\r\n\r\n", false, "read answer: malformed HTTP"},
		"half":     {"HTTP/1.1 200 OK\r\nA: b", true, "no answer within 100ms"},
		"huge":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHead), true, "read answer: unexpected EOF"},
		"interims": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 9), false, "only interim answers"},
		"upgrade":  {"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, "status 101, want 200"},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute // a busy machine must not turn the others into this
			if strings.Contains(tc.want, "100ms") {
				timeout = 100 * time.Millisecond
			}
			err := NewChecker(CheckerConfig{Timeout: timeout}).Check(t.Context(), raw(t, tc.text, tc.hold), "/health")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestCheckEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("shutting down")
	cancel(reason)
	err := NewChecker(CheckerConfig{}).Check(ctx, raw(t, "", true), "/health")
	if !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
	gone := api.Endpoint{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}
	if err := NewChecker(CheckerConfig{}).Check(t.Context(), gone, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}
