package service

import (
	"context"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/modeltest"
	"github.com/tenement-fleet/tenement/provider/internal/placement"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

// blank is what an import begins with.
func blank() *Model {
	d, s := units.Null(units.DurationKind), units.Null(units.SizeKind)
	return &Model{
		Spec: Spec{
			Args: types.ListNull(types.StringType), Env: types.MapNull(types.StringType), SecretEnv: types.ListNull(types.StringType), Placement: placement.Null(),
			HealthInterval: d, IdleTimeout: d, StartupTimeout: d, RequestTimeout: d, StopTimeout: d, RestartWindow: d, BackoffBase: d, BackoffMax: d,
			MemoryLimit: s, StorageQuota: s, Memory: s,
		},
		EnvWO: types.MapNull(types.StringType), Timeouts: managed.NoTimeouts(),
	}
}

func TestRoundTrip(t *testing.T) {
	modeltest.RoundTrip[Model, api.Service](t, resourceSchema(), blank, modeltest.Filled[api.Service],
		"Source", "SourceNode", "Revision", "CreatedAt", "UpdatedAt")
}

// What is left out is what the API fills in.
func TestDefaults(t *testing.T) {
	m := blank()
	m.Name, m.Command = types.StringValue("web"), types.StringValue("true")
	got, diags := m.Expand(t.Context())
	want := &api.Service{Name: "web", Command: "true"}
	want.SetDefaults()
	if diags.HasError() || !got.Equal(want) {
		t.Errorf("expanded to\n%+v\nnot\n%+v\n%v", got, want, diags)
	}
	for name, a := range resourceSchema().Attributes {
		if a.IsComputed() && !a.IsOptional() && name != "secret_env" {
			t.Errorf("%s is the cluster's alone to say: does it change by itself?", name)
		}
	}
}

// Who writes a command line gets a command line back, until it is another program.
func TestCommandLine(t *testing.T) {
	ctx := context.Background()
	m := blank()
	m.Name, m.Command = types.StringValue("web"), types.StringValue(`python3 -m 'http server'`)
	s, _ := m.Expand(ctx)
	if s.Command != "python3" || len(s.Args) != 2 {
		t.Fatalf("expanded to %q %q", s.Command, s.Args)
	}
	m.Flatten(ctx, s)
	if m.Command.ValueString() != `python3 -m 'http server'` || !m.Args.IsNull() {
		t.Errorf("became %s %s", m.Command, m.Args)
	}
	s.Args[1] = "other"
	m.Flatten(ctx, s)
	if m.Command.ValueString() != "python3" || len(m.Args.Elements()) != 2 {
		t.Errorf("another program became %s %s", m.Command, m.Args)
	}
}
