package api_test

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

const (
	wantName     = "1 to 63 of a-z 0-9 _ -, the first a letter or digit"
	wantInterval = "a duration from 100ms to 8760h"
	wantSpan     = "a duration from 1ms to 8760h"
)

// rule is one way to break a rule of Validate, and what is said about it.
type rule[T any] struct {
	breakIt          func(*T)
	field, got, want string
}

// testRules holds every rule against a valid T: each alone, then all together.
func testRules[T any, P interface {
	*T
	SetDefaults()
	Validate() error
}](t *testing.T, valid func() *T, rules []rule[T]) {
	v := valid()
	P(v).SetDefaults()
	if err := P(v).Validate(); err != nil {
		t.Fatalf("the valid %T is refused: %v", *v, err)
	}
	var all []string // the fields, in the order of their rules
	together := valid()
	P(together).SetDefaults()
	for _, r := range rules {
		want := api.FieldError{Field: r.field, Got: r.got, Want: r.want}
		v := valid()
		P(v).SetDefaults()
		r.breakIt(v)
		var got api.FieldErrors
		if err := P(v).Validate(); !errors.As(err, &got) || !slices.Equal(got, api.FieldErrors{want}) {
			t.Errorf("%T: got %v, want %v", *v, err, want.Error())
		}
		if !slices.Contains(all, r.field) {
			r.breakIt(together)
			all = append(all, r.field)
		}
	}
	var got api.FieldErrors
	err := P(together).Validate()
	if errors.As(err, &got); !slices.EqualFunc(got, all, func(e api.FieldError, f string) bool { return e.Field == f }) {
		t.Errorf("all rules of %T broken together: got %v, want the fields %v", *v, err, all)
	}
}

func TestValidateService(t *testing.T) {
	valid := func() *api.Service { return &api.Service{Name: "web", Command: "app"} }
	type s = api.Service
	testRules(t, valid, []rule[s]{
		{func(s *s) { s.Name = "Web" }, "name", "Web", wantName},
		{func(s *s) { s.Name = "" }, "name", "", wantName},
		{func(s *s) { s.Name = "api_token" }, "name", "api_token", "a name that ten does not use itself in its data directory"},
		{func(s *s) { s.Command = "" }, "command", "", "a program and its arguments, quotes balanced"},
		{func(s *s) { s.Command, s.Args = "'open", nil }, "command", "'open", "a program and its arguments, quotes balanced"},
		{func(s *s) { s.Command = "a\x00" }, "command", "a\x00", "text without NUL bytes"},
		{func(s *s) { s.Args = []string{"a", "\x00"} }, "args", "[a \x00]", "text without NUL bytes"},
		{func(s *s) { s.Env = map[string]string{"A=B": "x"} }, "env", "A=B", "names without = or NUL"},
		{func(s *s) { s.Env = map[string]string{"": "x"} }, "env", "", "names without = or NUL"},
		{func(s *s) { s.SecretEnv = []string{"PASSWORD"} }, "secret_env", "PASSWORD", "names that are in env"},
		{func(s *s) { s.Workdir = "\x00" }, "workdir", "\x00", "a path without NUL bytes"},
		{func(s *s) { s.Socket = "\x00" }, "socket", "\x00", "a path without NUL bytes"},
		{func(s *s) { s.Health = "health" }, "health", "health", "an HTTP path that starts with /"},
		{func(s *s) { s.Health = "/a b" }, "health", "/a b", "an HTTP path that starts with /"},
		{func(s *s) { s.Health = "/%zz" }, "health", "/%zz", "an HTTP path that starts with /"},
		{func(s *s) { s.Health = "http://x/" }, "health", "http://x/", "an HTTP path that starts with /"},
		{
			func(s *s) { s.Isolation = "docker" }, "isolation", "docker",
			`one of "process", "namespace", "sandbox", "wasm", "firecracker", "qemu"`,
		},
		{func(s *s) { s.Restart = "maybe" }, "restart", "maybe", `one of "always", "on-failure", "never"`},
		{func(s *s) { s.Source = "me" }, "source", "me", `one of "api", "file", "request", "fleet"`},
		{func(s *s) { s.HealthInterval = 1e6 }, "health_interval", "1ms", wantInterval},
		{func(s *s) { s.IdleTimeout = -1 }, "idle_timeout", "-1ns", "a duration from 0s to 8760h"},
		{func(s *s) { s.StartupTimeout = 0 }, "startup_timeout", "0s", wantSpan},
		{func(s *s) { s.RequestTimeout = api.Seconds(8760*3600 + 1) }, "request_timeout", "8760h1s", wantSpan},
		{func(s *s) { s.StopTimeout = -1 }, "stop_timeout", "-1ns", wantSpan},
		{func(s *s) { s.RestartWindow = 1 }, "restart_window", "1ns", wantSpan},
		{func(s *s) { s.BackoffBase = 0 }, "backoff_base", "0s", wantSpan},
		{func(s *s) { s.BackoffMax = -1 }, "backoff_max", "-1ns", "a duration from 1s to 8760h"},
		{func(s *s) { s.MaxRestarts = -2 }, "max_restarts", "-2", "-1 (none) to 1000"},
		{func(s *s) { s.MaxRestarts = 1001 }, "max_restarts", "1001", "-1 (none) to 1000"},
		{func(s *s) { s.MemoryLimit = -1 }, "memory_limit", "-1B", "0 (unlimited) or more"},
		{func(s *s) { s.CPUShares = 10001 }, "cpu_shares", "10001", "1 to 10000, or 0 for unset"},
		{func(s *s) { s.StorageQuota = -1 }, "storage_quota", "-1B", "0 (unlimited) or more"},
		{func(s *s) { s.Memory = -1 }, "memory", "-1B", "0 or more"},
		{func(s *s) { s.VCPUs = 257 }, "vcpus", "257", "0 to 256"},
		{func(s *s) { s.VsockPort = 65536 }, "vsock_port", "65536", "0 to 65535"},
		{func(s *s) { s.MaxInstances = 0 }, "max_instances", "0", "1 to 1000000"},
	})
}

// A secret that sits in the environment is not told.
func TestValidateHidesEnv(t *testing.T) {
	s := &api.Service{Name: "a", Command: "b", Env: map[string]string{"KEY": "hunter2\x00", "OK": "x"}}
	s.SetDefaults()
	err := s.Validate()
	if err == nil || err.Error() != `env.KEY: got "(hidden)", want text without NUL bytes` {
		t.Errorf("got %v", err)
	}
}

func TestValidateHealthPaths(t *testing.T) {
	for _, p := range []string{"", "/", "/health", "/a/b?deep=1&x=%20", "/ä", "//x"} {
		s := &api.Service{Name: "a", Command: "b", Health: p}
		s.SetDefaults()
		if err := s.Validate(); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestValidateInstance(t *testing.T) {
	type i = api.Instance
	weight := func(n int) func(*i) { return func(i *i) { i.Weight = &n } }
	testRules(t, func() *i { return &i{Service: "web", ID: "alice"} }, []rule[i]{
		{func(i *i) { i.Service = "-" }, "service", "-", wantName},
		{func(i *i) { i.ID = "a.b" }, "id", "a.b", wantName},
		{func(i *i) { i.Desired = "up" }, "desired", "up", `one of "running", "asleep", "stopped"`},
		{weight(101), "weight", "101", "0 to 100"},
		{weight(-1), "weight", "-1", "0 to 100"},
		{func(i *i) { i.Source = "" }, "source", "", `one of "api", "file", "request", "fleet"`},
		{func(i *i) { i.Pin = strings.Repeat("x", 65) }, "pin", strings.Repeat("x", 65), "the id of a node"},
		{func(i *i) { i.Fleet = "F" }, "fleet", "F", wantName},
	})
}

func TestValidateNode(t *testing.T) {
	type n = api.Node
	testRules(t, func() *n { return &n{ID: "8c7f", Name: "one"} }, []rule[n]{
		{func(n *n) { n.ID = "" }, "id", "", "1 to 64 characters"},
		{func(n *n) { n.Name = "One" }, "name", "One", wantName},
		{func(n *n) { n.Eligibility = "no" }, "eligibility", "no", `one of "eligible", "cordoned", "draining"`},
		{func(n *n) { n.Capacity.CPUs = -1 }, "capacity.cpus", "-1", "0 or more"},
		{func(n *n) { n.Capacity.Memory = -1 }, "capacity.memory", "-1B", "0 or more"},
		{func(n *n) { n.Capacity.Storage = -1 }, "capacity.storage", "-1B", "0 or more"},
	})
}

func TestValidateToken(t *testing.T) {
	type tok = api.Token
	valid := func() *tok { return &tok{ID: "0123456789ab", SHA256: make([]byte, 32)} }
	testRules(t, valid, []rule[tok]{
		{func(t *tok) { t.ID = "0123456789aB" }, "id", "0123456789aB", "12 hex digits"},
		{func(t *tok) { t.Role = "root" }, "role", "root", `one of "admin", "tenant"`},
		{func(t *tok) { t.Tenant = "alice" }, "tenant", "alice", "nothing, for an admin token"},
		{func(t *tok) { t.Description = strings.Repeat("x", 201) }, "description", strings.Repeat("x", 201), "at most 200 bytes"},
		{func(t *tok) { t.SHA256 = nil }, "sha256", "0", "32 bytes"},
	})
	tenant := valid()
	tenant.Role = api.RoleTenant
	if err := tenant.Validate(); err == nil || err.Error() != `tenant: got "", want `+wantName {
		t.Errorf("a tenant token without a tenant: %v", err)
	}
	if r := filled[tok](1).Redacted(); r.SHA256 != nil || r.ID == "" {
		t.Errorf("redacted: %+v", r)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "a-b_c9": true, "a-": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "_a": false, "A": false, "a.b": false, "a b": false, "a\n": false, "ä": false,
		strings.Repeat("a", 64): false,
	} {
		if api.ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
}

func TestStates(t *testing.T) {
	serving, live := "running degraded", "starting running degraded unhealthy backoff stopping"
	for _, s := range api.States() {
		if got, want := s.Serving(), strings.Contains(serving, string(s)); got != want {
			t.Errorf("%s.Serving() = %v", s, got)
		}
		if got, want := s.Live(), strings.Contains(live, string(s)); got != want {
			t.Errorf("%s.Live() = %v", s, got)
		}
	}
	for desired, want := range map[api.Desired]api.State{
		api.DesiredRunning: api.StatePending, api.DesiredAsleep: api.StateAsleep, api.DesiredStopped: api.StateStopped,
	} {
		i := api.Instance{Desired: desired}
		if got := i.State(); got != want {
			t.Errorf("desired %s, never observed: %s, want %s", desired, got, want)
		}
		i.Observed = &api.Observed{State: api.StateFailed}
		if got := i.State(); got != api.StateFailed {
			t.Errorf("observed failed: %s", got)
		}
	}
}

func TestExpand(t *testing.T) {
	ref := api.Ref{Service: "web", ID: "alice"}
	for text, want := range map[string]string{
		"":                                     "",
		"plain":                                "plain",
		"{name}-{id}":                          "web-alice",
		"{data_dir}/x:{port}":                  "/d/web/alice/x:30001",
		"unix:{socket}":                        "unix:/s",
		"{unknown} {} {{id}} ${HOME} { id } {": "{unknown} {} {alice} ${HOME} { id } {",
	} {
		if got := api.Expand(text, ref, "/d/web/alice", 30001, "/s"); got != want {
			t.Errorf("Expand(%q) = %q, want %q", text, got, want)
		}
	}
	// What is put in is not expanded again.
	if got := api.Expand("{data_dir}", ref, "/{id}", 0, ""); got != "/{id}" {
		t.Errorf("got %q", got)
	}
}

func TestErrors(t *testing.T) {
	statuses := map[api.Code]int{
		api.CodeInvalid: 400, api.CodeUnauthenticated: 401, api.CodeForbidden: 403, api.CodeNotFound: 404,
		api.CodeNotAllowed: 405, api.CodeConflict: 409, api.CodeStaleRevision: 412, api.CodeTooLarge: 413,
		api.CodeTooManyRequests: 429, api.CodeInternal: 500, api.CodeFailed: 502, api.CodeUnavailable: 503,
		api.CodeDiskFull: 503, api.CodeTimeout: 504, "unheard_of": 500, "": 500,
	}
	for _, code := range slices.Sorted(maps.Keys(statuses)) {
		if got := code.Status(); got != statuses[code] {
			t.Errorf("%q.Status() = %d, want %d", code, got, statuses[code])
		}
	}

	cause := errors.New("disk on fire")
	err := api.Errorf(api.CodeInternal, "write %s: %w", "x", cause)
	wrapped := errors.Join(errors.New("first"), err)
	for _, tc := range []struct {
		name   string
		err    error
		target error
		is     bool
	}{
		{"its cause", err, cause, true},
		{"its kind", err, &api.Error{Code: api.CodeInternal}, true},
		{"its kind and message", err, &api.Error{Code: api.CodeInternal, Message: "write x: disk on fire"}, true},
		{"wrapped", wrapped, &api.Error{Code: api.CodeInternal}, true},
		{"another kind", err, &api.Error{Code: api.CodeNotFound}, false},
		{"another message", err, &api.Error{Code: api.CodeInternal, Message: "no"}, false},
		{"another type", err, errors.New("write x: disk on fire"), false},
	} {
		if got := errors.Is(tc.err, tc.target); got != tc.is {
			t.Errorf("%s: errors.Is = %v", tc.name, got)
		}
	}

	field := &api.FieldError{Field: "name", Got: "X", Want: "x"}
	for _, tc := range []struct {
		err  error
		want api.Code
	}{
		{nil, ""},
		{err, api.CodeInternal},
		{api.Errorf(api.CodeConflict, "no"), api.CodeConflict},
		{errors.Join(cause, api.Errorf(api.CodeConflict, "no")), api.CodeConflict},
		{field, api.CodeInvalid},
		{errors.Join(api.FieldErrors{*field}), api.CodeInvalid},
		{cause, api.CodeInternal},
	} {
		if got := api.CodeOf(tc.err); got != tc.want {
			t.Errorf("CodeOf(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
	var fe *api.FieldError
	if !errors.As(api.FieldErrors{*field}, &fe) || *fe != *field {
		t.Errorf("errors.As finds %v in the fields", fe)
	}
	if got := (api.FieldErrors{*field, {Field: "a", Got: "", Want: "b"}}).Error(); got != `name: got "X", want x; a: got "", want b` {
		t.Errorf("got %s", got)
	}
}

// Values are checked as they come from anywhere: Validate must not panic on what was
// never given its defaults.
func TestValidateZero(t *testing.T) {
	for _, v := range []interface{ Validate() error }{new(api.Service), new(api.Instance), new(api.Node), new(api.Token), new(api.Fleet), new(api.Route), new(api.JoinToken)} {
		if err := v.Validate(); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%v: got %v", reflect.TypeOf(v), err)
		}
	}
}
