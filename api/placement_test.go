package api_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

const wantConstraint = `a condition such as "zone = eu-1|eu-2", "provider != acme", "label.gpu" or "!label.old"`

func TestParseConstraint(t *testing.T) {
	for text, want := range map[string]string{
		"zone = eu-1":              "zone = eu-1",
		"zone=eu-1":                "zone = eu-1",
		"  region !=us |  asia ":   "region != us|asia",
		"region! = us":             "region != us",
		"label.gpu":                "label.gpu",
		"!label.old":               "!label.old",
		"! zone":                   "!zone",
		"label.a.b/c = x y":        "label.a.b/c = x y",
		"node = 8c7f|one":          "node = 8c7f|one",
		"version = v1.2.3":         "version = v1.2.3",
		"provider = Ünïcode, Inc.": "provider = Ünïcode, Inc.",
		"label." + strings.Repeat("a", 63) + "=" + strings.Repeat("v", 256): "label." + strings.Repeat("a", 63) + " = " + strings.Repeat("v", 256),
	} {
		got, err := api.ParseConstraint(text)
		if err != nil || string(got) != want {
			t.Errorf("%q: got %q %v, want %q", text, got, err, want)
		}
		var k api.Constraint
		if err := k.UnmarshalText([]byte(text)); err != nil || string(k) != want {
			t.Errorf("%q: unmarshalled to %q %v, want %q", text, k, err, want)
		}
	}
	for _, bad := range []string{
		"", " ", "!", "=", "zone =", "= eu", "zone = a||b", "zone = a|", "zone == a", "zone = a = b", "zone = !a",
		"!zone = a", "!!zone", "colour = red", "Zone = a", "label.", "label. = x", "!label.", "label.a b", "label.a!b",
		"zone = a\nb", "zone = a\x00", "label." + strings.Repeat("a", 64), "zone = " + strings.Repeat("v", 257),
	} {
		var want *api.FieldError
		if got, err := api.ParseConstraint(bad); !errors.As(err, &want) || want.Got != bad || want.Want != wantConstraint {
			t.Errorf("%q: got %q, %v", bad, got, err)
		}
		var k api.Constraint
		if err := k.UnmarshalText([]byte(bad)); err != nil || string(k) != bad {
			t.Errorf("%q: unmarshalled to %q, %v; want it left for Validate", bad, k, err)
		}
		if k.Compile()(&api.Node{Name: "n", Zone: "a"}) {
			t.Errorf("%q holds of a node", bad)
		}
	}
}

func TestConstraintHolds(t *testing.T) {
	full := &api.Node{
		ID: "8c7f", Name: "one", Region: "eu", Zone: "eu-1", Provider: "acme", Version: "v2",
		Labels: map[string]string{"gpu": "a100", "empty": ""},
	}
	bare := &api.Node{ID: "9d80", Name: "two"}
	for text, want := range map[api.Constraint][2]bool{
		"zone = eu-1":         {true, false},
		"zone = eu-2|eu-1":    {true, false},
		"zone = eu-2":         {false, false},
		"zone != eu-1":        {false, true},
		"zone != eu-2|eu-3":   {true, true},
		"zone":                {true, false},
		"!zone":               {false, true},
		"region = eu":         {true, false},
		"provider = acme":     {true, false},
		"version = v2":        {true, false},
		"node = one":          {true, false},
		"node = 9d80|x":       {false, true},
		"node != one|9d80":    {false, false},
		"node":                {true, true},
		"label.gpu":           {true, false},
		"!label.gpu":          {false, true},
		"label.gpu = a100":    {true, false},
		"label.gpu != a100":   {false, true},
		"label.empty":         {true, false},
		"!label.empty":        {false, true},
		"label.empty = x":     {false, false},
		"label.none != x":     {true, true},
		"zone=eu-1":           {true, false}, // not in its canonical form
		"no such thing = eu1": {false, false},
	} {
		holds := text.Compile()
		if got := [2]bool{holds(full), holds(bare)}; got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func FuzzParseConstraint(f *testing.F) {
	for _, s := range []string{"zone = eu-1|eu-2", "region!=us", "label.gpu", "! label.old", "node = a = b", "zone = ", "label.\u00a0x=\r"} {
		f.Add(s, "eu-1")
	}
	f.Fuzz(func(t *testing.T, s, value string) {
		k, err := api.ParseConstraint(s)
		if err != nil {
			if api.Constraint(s).Compile()(&api.Node{Zone: value}) {
				t.Errorf("%q can't be read, and holds of a node", s)
			}
			return
		}
		if again, err := api.ParseConstraint(string(k)); err != nil || again != k {
			t.Errorf("%q is %q, which reads back as %q, %v", s, k, again, err)
		}
		b, err := json.Marshal(k)
		var back api.Constraint
		if err != nil || json.Unmarshal(b, &back) != nil {
			t.Fatalf("%q does not go through JSON: %s %v", k, b, err)
		}
		if valid := strings.ToValidUTF8(string(k), "\ufffd"); string(back) != valid && string(k) == valid {
			t.Errorf("%q comes back from JSON as %q", k, back)
		}
		for _, n := range []*api.Node{{}, {ID: value, Name: "n", Zone: value, Region: value, Labels: map[string]string{"gpu": value, "x": ""}}} {
			if api.Constraint(s).Compile()(n) != k.Compile()(n) {
				t.Errorf("%q and its canonical form %q differ about %+v", s, k, n)
			}
		}
	})
}

// placementRules are the ways to break the rules of what has a placement.
func placementRules[T any](at func(*T) *api.PlacementRules) []rule[T] {
	broken := func(change func(*api.PlacementRules)) func(*T) { return func(v *T) { change(at(v)) } }
	type p = api.PlacementRules
	return []rule[T]{
		{broken(func(p *p) { p.Strategy = "pack" }), "placement.strategy", "pack", `one of "spread", "binpack"`},
		{broken(func(p *p) { p.SpreadBy = "rack" }), "placement.spread_by", "rack", `one of "node", "zone", "region"`},
		{broken(func(p *p) { p.Constraints = repeat(api.Constraint("zone"), 33) }), "placement.constraints", "33", "at most 32"},
		{broken(func(p *p) { p.Affinities = repeat(api.Affinity{Match: "zone", Weight: 1}, 33) }), "placement.affinities", "33", "at most 32"},
		{broken(func(p *p) { p.AntiAffinity = repeat("web", 33) }), "placement.anti_affinity", "33", "at most 32"},
	}
}

func repeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func TestValidatePlacement(t *testing.T) {
	valid := func() *api.Service {
		return &api.Service{Name: "web", Command: "app", OnDisconnect: api.DisconnectStop, Placement: &api.PlacementRules{
			Strategy: api.StrategyBinpack, SpreadBy: api.SpreadByRegion, Constraints: []api.Constraint{"zone = a", "!label.old"},
			Affinities: []api.Affinity{{Match: "label.gpu", Weight: -100}}, AntiAffinity: []string{"web", "db"},
		}}
	}
	testRules(t, valid, append([]rule[api.Service]{
		{func(s *api.Service) { s.OnDisconnect = "panic" }, "on_disconnect", "panic", `one of "replace", "keep", "stop"`},
	}, placementRules(func(s *api.Service) *api.PlacementRules { return s.Placement })...))

	for want, change := range map[string]func(*api.PlacementRules){
		`placement.constraints: got "zone ~ x", want ` + wantConstraint:                                                                          func(p *api.PlacementRules) { p.Constraints[1] = "zone ~ x" },
		`placement.affinities.match: got "", want ` + wantConstraint:                                                                             func(p *api.PlacementRules) { p.Affinities[0].Match = "" },
		`placement.affinities.weight: got "0", want -100 to 100, but not 0`:                                                                      func(p *api.PlacementRules) { p.Affinities[0].Weight = 0 },
		`placement.affinities.weight: got "101", want -100 to 100, but not 0`:                                                                    func(p *api.PlacementRules) { p.Affinities[0].Weight = 101 },
		`placement.anti_affinity: got "No", want ` + wantName:                                                                                    func(p *api.PlacementRules) { p.AntiAffinity[1] = "No" },
		`placement.affinities.match: got "a", want ` + wantConstraint + `; placement.affinities.weight: got "-101", want -100 to 100, but not 0`: func(p *api.PlacementRules) { p.Affinities[0] = api.Affinity{Match: "a", Weight: -101} },
	} {
		s := valid()
		s.SetDefaults()
		change(s.Placement)
		if err := s.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPlacementDefaults(t *testing.T) {
	var none *api.PlacementRules
	written := &api.PlacementRules{Strategy: api.StrategySpread, SpreadBy: api.SpreadByNode}
	if !none.IsZero() || !none.Equal(&api.PlacementRules{}) || !(&api.PlacementRules{}).Equal(none) || none.Clone() != nil {
		t.Error("no rules are not the empty ones")
	}
	if got := none.WithDefaults(); !got.Equal(written) || got.Strategy != api.StrategySpread || got.SpreadBy != api.SpreadByNode {
		t.Errorf("got %+v", got)
	}
	if !written.Equal(&api.PlacementRules{}) || !none.Equal(written) || !written.Equal(none) || !written.IsZero() {
		t.Error("defaults that are written differ from those that are not")
	}
	if p := (&api.PlacementRules{Strategy: api.StrategyBinpack}); p.WithDefaults().Strategy != api.StrategyBinpack || p.SpreadBy != "" {
		t.Errorf("got %+v", p)
	}
}

func TestValidateFleet(t *testing.T) {
	type f = api.Fleet
	weight := func(n int) func(*f) { return func(f *f) { f.Weight = &n } }
	valid := func() *f { return &f{Service: "web", Name: "blue", Replicas: 3, Placement: &api.PlacementRules{}} }
	long := strings.Repeat("f", api.MaxFleetName+1)
	testRules(t, valid, append([]rule[f]{
		{func(f *f) { f.Service = "" }, "service", "", wantName},
		{func(f *f) { f.Name = long }, "name", long, "at most 57 characters, so that its members' names fit"},
		{func(f *f) { f.Name = "a:b" }, "name", "a:b", wantName},
		{func(f *f) { f.Replicas = -1 }, "replicas", "-1", "0 to 100000"},
		{func(f *f) { f.Replicas = 100_001 }, "replicas", "100001", "0 to 100000"},
		{weight(101), "weight", "101", "0 to 100"},
		{weight(-1), "weight", "-1", "0 to 100"},
		{func(f *f) { f.Source = "me" }, "source", "me", `one of "api", "file", "request", "fleet"`},
	}, placementRules(func(f *f) *api.PlacementRules { return f.Placement })...))
}

// Every member of the largest fleet with the longest name has a valid name.
func TestFleetMembers(t *testing.T) {
	f := api.Fleet{Service: "web", Name: strings.Repeat("f", api.MaxFleetName), Replicas: api.MaxReplicas}
	if last := f.Member(f.Replicas - 1); last.Validate() != nil || last.ID != f.Name+"-99999" || last.Service != "web" {
		t.Errorf("got %s", last)
	}
	if got := f.Ref(); got != (api.Ref{Service: "web", ID: f.Name}) {
		t.Errorf("got %s", got)
	}
}

func TestValidateJoinToken(t *testing.T) {
	type k = api.JoinToken
	long := strings.Repeat("x", 201)
	for want, change := range map[string]func(*k){
		"": func(*k) {},
		`id: got "0123456789AB", want 12 hex digits`:                     func(t *k) { t.ID = "0123456789AB" },
		`description: got "` + long + `", want at most 200 bytes`:        func(t *k) { t.Description = long },
		`sha256: got "31", want 32 bytes`:                                func(t *k) { t.SHA256 = make([]byte, 31) },
		`max_uses: got "-1", want 0 (any number) or more`:                func(t *k) { t.MaxUses = -1 },
		`id: got "", want 12 hex digits; sha256: got "0", want 32 bytes`: func(t *k) { *t = k{} },
	} {
		token := &k{ID: "0123456789ab", SHA256: make([]byte, 32)}
		change(token)
		got := ""
		if err := token.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
