package provider_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

// States that version 1.0 has written are read for ever, with nothing lost. The files are
// never changed: a schema that changes gets a new version and an upgrade.
func TestGoldenStates(t *testing.T) {
	p := acctest.Speak(t)
	files, err := filepath.Glob("testdata/1.0/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden states: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden struct {
			Version    int64           `json:"schema_version"`
			Attributes json.RawMessage `json:"attributes"`
		}
		if err := json.Unmarshal(text, &golden); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		resp, err := p.UpgradeResourceState(t.Context(), &tfprotov6.UpgradeResourceStateRequest{
			TypeName: name, Version: golden.Version, RawState: &tfprotov6.RawState{JSON: golden.Attributes},
		})
		p.Must(err, resp.Diagnostics)
		var want map[string]any
		if err := json.Unmarshal(golden.Attributes, &want); err != nil {
			t.Fatal(err)
		}
		got := p.Map(p.Schemas.ResourceSchemas[name], resp.UpgradedState)
		for attribute, value := range want {
			if !reflect.DeepEqual(got[attribute], value) {
				t.Errorf("%s: %s was %v and became %v", file, attribute, value, got[attribute])
			}
		}
	}
}

// While the provider's configuration is not known, resources are planned without a
// cluster, and their state stays.
func TestUnknownConfiguration(t *testing.T) {
	p := acctest.Speak(t)
	p.Must(nil, p.Configure(config{"endpoints": acctest.Unknown, "token": acctest.Unknown}))
	for name, values := range map[string]config{
		"ten_service":  {"name": "web", "command": "true"},
		"ten_instance": {"service": "web", "id": "blue", "ref": "web:blue", "desired": "running", "weight": 1},
		"ten_fleet":    {"service": "web", "name": "green", "ref": "web:green", "replicas": 2, "weight": 1},
	} {
		s := p.Schemas.ResourceSchemas[name]
		state := p.Value(s, values)
		read, err := p.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{TypeName: name, CurrentState: state})
		p.Must(err, read.Diagnostics)
		if got, want := p.Map(s, read.NewState), p.Map(s, state); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read became %v, was %v", name, got, want)
		}
		given := config{}
		for k, v := range values {
			if k != "ref" {
				given[k] = v
			}
		}
		plan, err := p.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
			TypeName: name, PriorState: p.Null(s), ProposedNewState: p.Value(s, given), Config: p.Value(s, given),
		})
		p.Must(err, plan.Diagnostics)
		if len(plan.Diagnostics) > 0 {
			t.Errorf("%s: planned with %v", name, plan.Diagnostics)
		}
		applied, err := p.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
			TypeName: name, PriorState: p.Null(s), PlannedState: plan.PlannedState, Config: p.Value(s, given),
		})
		if err != nil || len(applied.Diagnostics) == 0 || !strings.Contains(acctest.Text(applied.Diagnostics[0]), "The cluster is not known yet") {
			t.Errorf("%s: applied without a cluster: %v, %v", name, applied.Diagnostics, err)
		}
	}
}

// BenchmarkConfigure is what the provider does between its start and its being configured,
// but for the start of the process.
func BenchmarkConfigure(b *testing.B) {
	for b.Loop() {
		p := acctest.Speak(b)
		p.Must(nil, p.Configure(config{"endpoints": []any{"http://127.0.0.1:1"}, "token": "x"}))
	}
}
