package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tenement-fleet/tenement/proxy"
)

// TestNotYet: a request for an instance that reaches a node while it starts is not failed
// by the node that passed it on; anything else hears that nobody is there yet.
func TestNotYet(t *testing.T) {
	for instance, want := range map[string]int{"app:one": http.StatusMisdirectedRequest, "": http.StatusServiceUnavailable} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(proxy.HeaderInstance, instance)
		w := httptest.NewRecorder()
		notYet(w, r)
		moved := w.Header().Get("Tenement-Moved") != ""
		if w.Code != want || moved != (instance != "") {
			t.Errorf("instance %q: status %d, moved %t", instance, w.Code, moved)
		}
	}
}
