package provider_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const need = `terraform {
  required_providers {
    ten = { source = "tenement/ten" }
  }
}
`

func web(rest string) string {
	return `
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
}
` + rest
}

const blue = `
resource "ten_instance" "blue" {
  service = ten_service.web.name
  id      = "blue"
  %s
}
`

func problem(w http.ResponseWriter, code api.Code, text string) {
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(code.Status())
	fmt.Fprintf(w, `{"code":%q,"detail":%q}`, code, text)
}

// TestFaults breaks what lies between the provider and the cluster, in one workspace and
// in turn; each apply after it heals what was left, and a plan after that is empty.
func TestFaults(t *testing.T) {
	c := acctest.Here(t, 1, acctest.Config{})
	front := acctest.Front(t, c.Endpoints[0])
	w := acctest.Workspace(t, t.TempDir())
	write := func(rest string) {
		w.Write("main.tf", need+acctest.Provider([]string{front.URL}, c.Token)+web(rest))
	}
	empty := func() {
		t.Helper()
		front.Break(nil)
		w.Run("plan", "-detailed-exitcode")
	}
	puts := func(r *http.Request, what string) bool {
		return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/"+what)
	}
	var n atomic.Int64

	// Busy, and without a leader for a while: the apply goes on.
	front.Break(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		switch k := n.Add(1); {
		case k%2 == 0:
			return false
		case k%4 == 1:
			problem(w, api.CodeTooManyRequests, "slow down")
		default:
			problem(w, api.CodeUnavailable, "no leader")
		}
		return true
	})
	write(fmt.Sprintf(blue, ""))
	w.Run("apply", "-auto-approve")
	empty()

	// A write gets through, its answer does not: done once, and no error.
	n.Store(0)
	front.Break(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !puts(r, "instances/") || n.Add(1) > 1 {
			return false
		}
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	write(fmt.Sprintf(blue, "weight = 7") + `
resource "ten_instance" "green" {
  service = ten_service.web.name
  id      = "green"
}`)
	w.Run("apply", "-auto-approve")
	empty()

	// Somebody else changes it between the plan and the write: nothing is written, and the
	// error says what to do.
	write(fmt.Sprintf(blue, "weight = 8"))
	w.Run("plan", "-out=saved")
	if _, err := c.Client.SetWeight(t.Context(), api.Ref{Service: "web", ID: "blue"}, 99); err != nil {
		t.Fatal(err)
	}
	fails(t, w, "Somebody else has changed instance web:blue", "apply", "-auto-approve", "saved")
	if i, err := c.Client.Instance(t.Context(), api.Ref{Service: "web", ID: "blue"}); err != nil || i.EffectiveWeight() != 99 {
		t.Errorf("written over: %+v, %v", i, err)
	}
	w.Run("apply", "-auto-approve")
	empty()

	// Of several that can't be written, each is told; what could be is kept.
	front.Break(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if puts(r, "instances/web:bad") {
			problem(w, api.CodeConflict, "not this one")
			return true
		}
		return false
	})
	write(fmt.Sprintf(blue, "") + `
resource "ten_instance" "many" {
  for_each = toset(["bad1", "bad2", "fine"])
  service  = ten_service.web.name
  id       = each.key
}`)
	fails(t, w, "Cannot create instance web:bad1", "apply", "-auto-approve")
	fails(t, w, "Cannot create instance web:bad2", "apply", "-auto-approve")
	if _, err := c.Client.Instance(t.Context(), api.Ref{Service: "web", ID: "fine"}); err != nil {
		t.Error(err)
	}
	front.Break(nil)
	w.Run("apply", "-auto-approve")
	empty()
	w.Run("destroy", "-auto-approve")
	if left, err := c.Client.Services(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// fails runs terraform, which must fail and say so.
func fails(t *testing.T, w *acctest.Dir, want string, args ...string) {
	t.Helper()
	out, err := w.Try(t.Context(), args...)
	if text := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", " ")), " "); err == nil || !strings.Contains(text, want) {
		t.Errorf("terraform %s: %v, and no %q in\n%s", args[0], err, want, out)
	}
}

// An instance that does not become healthy in time is in the state, tainted; Ctrl-C while
// it is waited for leaves it there untainted. Either way the next apply heals.
func TestWaits(t *testing.T) {
	slow := acctest.Silent(t)
	c := acctest.Here(t, 1, slow.Config())
	w := acctest.Workspace(t, t.TempDir())
	write := func(rest string) {
		w.Write("main.tf", need+c.HCL("%s", `
resource "ten_service" "web" {
  name            = "web"
  command         = "true"
  isolation       = "process"
  startup_timeout = "1h"
}
`+fmt.Sprintf(blue, rest)))
	}
	write(`timeouts = { create = "3s" }`)
	fails(t, w, "The time-out ended while web:blue is starting.", "apply", "-auto-approve")
	fails(t, w, "is tainted, so must be replaced", "plan", "-detailed-exitcode")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	write("")
	for len(slow.Started) > 0 {
		<-slow.Started
	}
	go func() { // Ctrl-C once the new one is being started
		<-slow.Started
		cancel()
	}()
	if out, err := w.Try(ctx, "apply", "-auto-approve"); err == nil || !strings.Contains(out, "Interrupt") {
		t.Fatalf("not interrupted: %v\n%s", err, out)
	}
	w.Run("apply", "-auto-approve")
	w.Run("plan", "-detailed-exitcode")
	w.Run("destroy", "-auto-approve")
}

// The leader is killed in each of three applies, just before the first write, during it, and
// before it is answered: each ends well and a plan after it is empty.
func TestLeaderDies(t *testing.T) {
	c := acctest.Mortal(t, 3, acctest.Config{})
	w := acctest.Workspace(t, t.TempDir())
	write := func(weight int) {
		w.Write("main.tf", need+c.HCL("%s", web(fmt.Sprintf(`
resource "ten_instance" "all" {
  count    = 40
  service  = ten_service.web.name
  id       = "i${count.index}"
  weight   = %d
  wait_for = "placed"
}`, weight))))
	}
	for n := range 2 {
		write(n + 1)
		w.Run("apply", "-auto-approve")
		w.Run("plan", "-detailed-exitcode")
	}
	all, err := c.Client.Instances(t.Context(), client.InstanceQuery{Service: "web"})
	if err != nil || len(all) != 40 {
		t.Errorf("after the applies: %d instances, %v", len(all), err)
	}
	for _, i := range all {
		if i.EffectiveWeight() != 2 {
			t.Errorf("%s has weight %d", i.Ref(), i.EffectiveWeight())
		}
	}
	w.Run("destroy", "-auto-approve")
	if left, err := c.Client.Services(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if n := c.Kills(); n != 3 {
		t.Errorf("the leader was killed %d times", n)
	}
}

// A token that is wrong, has expired, may not do it or is revoked in the middle of an apply
// is told, with what to do; what was written by then is kept, and the next apply goes on.
func TestTokens(t *testing.T) {
	c := acctest.Here(t, 1, acctest.Config{})
	ctx := t.Context()
	token := func(r api.TokenRequest) *api.CreatedToken {
		t.Helper()
		made, err := c.Client.CreateToken(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	front := acctest.Front(t, c.Endpoints[0])
	w := acctest.Workspace(t, t.TempDir())
	as := func(secret string) {
		w.Write("main.tf", need+acctest.Provider([]string{front.URL}, secret)+web(fmt.Sprintf(blue, "")))
	}
	for secret, want := range map[string]string{
		"ten_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA":    "Token is not valid.",
		token(api.TokenRequest{Role: api.RoleAdmin, ExpiresIn: 1}).Secret: "Token expired.",
	} {
		as(secret)
		fails(t, w, want+" The cluster does not accept the token. Give a valid one as the provider's token or in TEN_TOKEN", "apply", "-auto-approve")
	}
	as(token(api.TokenRequest{Role: api.RoleTenant, Tenant: "blue"}).Secret)
	fails(t, w, "The token may not do this: Terraform needs one of role admin.", "apply", "-auto-approve")

	revoked := token(api.TokenRequest{Role: api.RoleAdmin})
	as(revoked.Secret)
	front.Break(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/instances/") {
			_ = c.Client.DeleteToken(ctx, revoked.ID) // gone already the second time
		}
		return false
	})
	fails(t, w, "Cannot create instance web:blue", "apply", "-auto-approve")
	front.Break(nil)
	as(c.Token)
	fails(t, w, "Plan: 1 to add, 0 to change, 0 to destroy.", "plan", "-detailed-exitcode") // the service is there
	w.Run("apply", "-auto-approve")
	w.Run("plan", "-detailed-exitcode")
	w.Run("destroy", "-auto-approve")
}

// Of two applies at once, from two states, that want different things of one instance, one
// gets its way and the other is told; neither writes over the other.
func TestTwoApplies(t *testing.T) {
	c := acctest.Here(t, 1, acctest.Config{})
	if _, err := c.Client.PutService(t.Context(), &api.Service{Name: "web", Command: "true", Isolation: api.IsolationProcess}, nil); err != nil {
		t.Fatal(err)
	}
	outs, errs := make([]string, 2), make([]error, 2)
	var wg sync.WaitGroup
	for n := range 2 {
		w := acctest.Workspace(t, t.TempDir())
		w.Write("main.tf", need+c.HCL(`
resource "ten_instance" "one" {
  service = "web"
  id      = "one"
  weight  = %d
}`, n+1))
		wg.Go(func() { outs[n], errs[n] = w.Try(t.Context(), "apply", "-auto-approve") })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("errors %v; want one", errs)
	}
	for n, err := range errs {
		if err == nil {
			if i, err := c.Client.Instance(t.Context(), api.Ref{Service: "web", ID: "one"}); err != nil || i.EffectiveWeight() != n+1 {
				t.Errorf("%d has won, but the instance is %+v, %v", n, i, err)
			}
		} else if !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(outs[n], "│", " ")), " "), "web:one exists already") {
			t.Errorf("the other one was told\n%s", outs[n])
		}
	}
}
