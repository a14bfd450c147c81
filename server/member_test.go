package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/peering"
)

// failing fails every request, or has a server that leaves answer it.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) {
	if f.err != nil {
		return nil, f.err
	}
	var leaving node
	leaving.leaving.Store(true)
	_, err := member{&leaving}.Ping()
	w := httptest.NewRecorder()
	peering.WriteError(w, err)
	return w.Result(), nil
}

// TestProber: a node whose connection for probes hangs is not silent if it answers over
// another one; one that refuses connections has ended, whatever it said before.
func TestProber(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		err   error
		heard time.Time
		check func(error) bool
	}{
		"silent":           {context.DeadlineExceeded, time.Time{}, func(err error) bool { return err != nil && !errors.Is(err, leader.ErrRefused) }},
		"heard before":     {context.DeadlineExceeded, now.Add(-time.Second), func(err error) bool { return err != nil }},
		"heard meanwhile":  {context.DeadlineExceeded, now.Add(time.Second), func(err error) bool { return err == nil }},
		"leaving":          {nil, now.Add(time.Second), func(err error) bool { return api.CodeOf(err) == api.CodeUnavailable }},
		"refused and told": {transport.ErrRefused, now.Add(time.Second), func(err error) bool { return errors.Is(err, leader.ErrRefused) }},
	} {
		p := prober{
			client: &peering.Client{Probe: func(string) *http.Client { return &http.Client{Transport: failing{tt.err}} }},
			heard:  func(string) time.Time { return tt.heard },
			now:    func() time.Time { return now },
		}
		if err := p.Ping(t.Context(), "a"); !tt.check(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
