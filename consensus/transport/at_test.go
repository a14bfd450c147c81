package transport

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestAtAnAddress(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a := w.start(t, id(0), newKeyring(t, s))
	b := w.start(t, id(1), newKeyring(t, s))
	stranger := w.start(t, id(2), newKeyring(t, newSecret(t)))

	status, body, err := get(t, a.At(b.Addr().String()))
	if want := id(0) + " HTTP/1.1 /ping "; err != nil || status != http.StatusOK || body != want {
		t.Errorf("got %d %q %v, want %q", status, body, err, want)
	}
	if _, _, err := get(t, a.At(stranger.Addr().String())); !errors.Is(err, ErrCertificate) {
		t.Errorf("another cluster: got %v", err)
	}
	_, _, err = get(t, a.At("127.0.0.1:1"))
	if e, ok := errors.AsType[*Error](err); !ok || !e.Dial || !errors.Is(err, ErrRefused) {
		t.Errorf("nobody there: got %v", err)
	}
	w.now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }
	late := w.start(t, id(3), newKeyring(t, s))
	if _, _, err := get(t, late.At(b.Addr().String())); !errors.Is(err, ErrCertificate) {
		t.Errorf("a clock a year ahead: got %v", err)
	}
}

// Only what is known not to have been sent is marked so.
func TestDialErrors(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a := w.start(t, id(0), newKeyring(t, s))
	entered := make(chan struct{})
	w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() })
	})
	w.move(id(9), "127.0.0.1:1")
	for node, dial := range map[string]bool{id(9): true, id(8): true} {
		_, _, err := get(t, a.Client(node))
		if e, ok := errors.AsType[*Error](err); !ok || e.Dial != dial {
			t.Errorf("%s: got %+v", node, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://peer/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.Client(id(1)).Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("answered")
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Dial {
		t.Errorf("sent, but %+v", e)
	}
}
