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
	c := acctest.Start(t, 1, acctest.Config{})
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
	c := acctest.Start(t, 1, slow.Config())
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

// The leader is stopped in the middle of an apply of many: it goes on through the others,
// and a second plan is empty.
func TestLeaderDies(t *testing.T) {
	c := acctest.Start(t, 3, acctest.Config{})
	c.Voting(t)
	w := acctest.Workspace(t, t.TempDir())
	w.Write("main.tf", need+c.HCL("%s", web(`
resource "ten_instance" "all" {
  count   = 40
  service = ten_service.web.name
  id      = "i${count.index}"
  wait_for = "placed"
}`)))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for e, err := range c.Nodes[1].Client.Events(ctx, 1) {
			if err != nil {
				return
			}
			if e.Type == api.EventInstanceUpdated {
				c.Nodes[0].Stop() // some are there, most are not
				return
			}
		}
	}()
	w.Run("apply", "-auto-approve")
	cancel()
	<-stopped
	w.Run("plan", "-detailed-exitcode")
	all, err := c.Nodes[1].Client.Services(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("after the apply: %v, %v", all, err)
	}
	w.Run("destroy", "-auto-approve")
}

// Of two applies at once, from two states, that want different things of one instance, one
// gets its way and the other is told; neither writes over the other.
func TestTwoApplies(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
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
