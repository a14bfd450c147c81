package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

const shop = "shop.example.test"

// shares asks the shop 100 times and returns how often each instance answered.
func (s *ten) shares(t *testing.T) string {
	t.Helper()
	got := map[string]int{}
	for range 100 {
		status, body := s.get(shop, "/instance")
		if status != 200 {
			t.Fatalf("got %d %s", status, body)
		}
		id, _, _ := strings.Cut(body, " ")
		got[id]++
	}
	return fmt.Sprint(got)
}

// TestRoutes sends a host to instances by weight, moves the weights, pauses and maintains it,
// as it is typed.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig(`isolation = "process"`, ""))
	if status, _ := s.get(shop, "/"); status != 404 {
		t.Fatalf("got %d without a route", status)
	}
	s.run("routes", "set", "shop", "--host", shop, "--backend", "app:v1=90", "--backend", "app:v2=10")
	if status, body := s.get(shop, "/"); status != 503 {
		t.Errorf("got %d %s without its backends", status, body)
	}
	var status api.RouteStatus
	show := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(s.run("routes", "show", "shop", "--json")), &status); err != nil {
			t.Fatal(err)
		}
	}
	if show(); status.Effective[0].Reason != "unknown: there is no instance app:v1" {
		t.Errorf("got %+v", status.Effective)
	}
	s.run("spawn", "app:v1", "app:v2")
	if got := s.shares(t); got != "map[v1:90 v2:10]" {
		t.Errorf("got %s", got)
	}
	if show(); status.Effective[0].Share != 90 || status.Effective[1].Share != 10 {
		t.Errorf("got %+v", status.Effective)
	}
	began := time.Now()
	s.run("routes", "set", "shop", "--backend", "app:v1=10", "--backend", "app:v2=90")
	if got := s.shares(t); got != "map[v1:10 v2:90]" {
		t.Errorf("%s after the weights were changed: got %s", time.Since(began), got)
	}
	s.routesModes(t)

	s.run("routes", "set", "shop", "--host", "", "--path", "/shop/deep", "--backend", "app")
	s.want("localhost", "/shop/deep/instance", "v")
	if code, _ := s.get("localhost", "/shop/deeper"); code == 200 {
		t.Error("half a segment was enough")
	}
	if _, text, code := s.exec("routes", "set", "other", "--path", "/shop/deep", "--backend", "app"); code == 0 || !strings.Contains(text, "route shop has path /shop/deep") {
		t.Errorf("two routes have one path: exit %d, %s", code, text)
	}
	s.kill()
	s.start()
	s.want("localhost", "/shop/deep/instance", "v")
	s.run("routes", "rm", "shop")
	if code, _ := s.get(shop, "/"); code != 404 {
		t.Errorf("got %d when it is removed", code)
	}
}

func (s *ten) routesModes(t *testing.T) {
	t.Helper()
	s.run("routes", "set", "shop", "--mode", "maintenance", "--message", "Back at 10.")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+shop+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if _, body := s.get(shop, "/"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "Back at 10.") {
		t.Errorf("got %d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	s.run("routes", "set", "shop", "--mode", "pause")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if code, body, err := s.try("GET", shop, "/instance", ""); code != 200 || err != nil {
				t.Errorf("held, then got %d %s %v", code, body, err)
			}
		})
	}
	until(t, patience, func() error {
		var now api.Telemetry
		if _, err := s.local(t.Context(), "GET", "/api/telemetry", &now); err != nil {
			return err
		}
		if n := now.Metrics["tenement_proxy_held_requests"]; n != 5 {
			return fmt.Errorf("%v requests are held, want 5", n)
		}
		return nil
	})
	s.run("routes", "set", "shop", "--mode", "live")
	wg.Wait()
}
