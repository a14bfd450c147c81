package actions_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// invoker invokes actions as Terraform 1.14 does: validate, plan, invoke.
type invoker struct {
	*acctest.Protocol
	server tfprotov6.ActionServer
	t      *testing.T
}

// invoke returns what the action said on its way, and its errors.
func (v invoker) invoke(name string, config map[string]any) (said, problems []string) {
	v.t.Helper()
	schema := v.Schemas.ActionSchemas[name]
	if schema == nil {
		v.t.Fatalf("no action %s", name)
	}
	value, ctx := v.Value(schema.Schema, config), v.t.Context()
	collect := func(diags []*tfprotov6.Diagnostic) {
		for _, d := range diags {
			problems = append(problems, acctest.Text(d))
		}
	}
	checked, err := v.server.ValidateActionConfig(ctx, &tfprotov6.ValidateActionConfigRequest{ActionType: name, Config: value})
	v.Must(err, nil)
	if collect(checked.Diagnostics); len(problems) > 0 {
		return said, problems
	}
	planned, err := v.server.PlanAction(ctx, &tfprotov6.PlanActionRequest{ActionType: name, Config: value})
	v.Must(err, nil)
	collect(planned.Diagnostics)
	stream, err := v.server.InvokeAction(ctx, &tfprotov6.InvokeActionRequest{ActionType: name, Config: value})
	v.Must(err, nil)
	for event := range stream.Events {
		switch e := event.Type.(type) {
		case tfprotov6.ProgressInvokeActionEventType:
			said = append(said, e.Message)
		case tfprotov6.CompletedInvokeActionEventType:
			collect(e.Diagnostics)
		}
	}
	return said, problems
}

// An instance is restarted, a node drained and promoted.
func TestActions(t *testing.T) {
	c := acctest.Here(t, 2, acctest.Config{})
	ctx := t.Context()
	p := acctest.Speak(t)
	p.Must(nil, p.Configure(map[string]any{"endpoints": []any{c.Endpoints[0]}, "token": c.Token}))
	server, ok := p.ProviderServer.(tfprotov6.ActionServer)
	if !ok {
		t.Fatalf("%T has no actions", p.ProviderServer)
	}
	v := invoker{p, server, t}
	if _, err := c.Client.PutService(ctx, &api.Service{Name: "app", Command: "true", Isolation: api.IsolationProcess}, nil); err != nil {
		t.Fatal(err)
	}
	ref := api.Ref{Service: "app", ID: "a"}
	if _, err := c.Client.Spawn(ctx, ref); err != nil {
		t.Fatal(err)
	}
	in, err := c.Client.Instance(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	machine, other := c.Nodes[0].Machine, c.Nodes[1].ID
	if in.Node == c.Nodes[1].ID {
		machine, other = c.Nodes[1].Machine, c.Nodes[0].ID
	}
	starts := machine.Count("start", ref)
	said, problems := v.invoke("ten_restart", map[string]any{"instance": "app:a"})
	if len(problems) > 0 || machine.Count("start", ref) != starts+1 || !strings.Contains(strings.Join(said, "\n"), "app:a is running") {
		t.Errorf("restart: %q, %q", said, problems)
	}
	said, problems = v.invoke("ten_drain", map[string]any{"node": in.Node, "timeout": "90s"})
	moved, err := c.Client.Instance(ctx, ref)
	if err != nil || len(problems) > 0 || moved.Node != other || len(said) == 0 {
		t.Errorf("drain: %q, %q, now on %s, %v", said, problems, moved.Node, err)
	}
	if _, problems = v.invoke("ten_drain", map[string]any{"node": other, "wait": false}); len(problems) > 0 {
		t.Errorf("drain without waiting: %q", problems)
	}
	said, problems = v.invoke("ten_promote", map[string]any{"node": c.Nodes[1].ID})
	if len(problems) > 0 || len(said) != 1 {
		t.Errorf("promote: %q, %q", said, problems)
	}
	for _, bad := range []struct {
		action string
		config map[string]any
		want   string
	}{
		{"ten_restart", map[string]any{"instance": "app"}, `instance"): Invalid ten_restart: Got "app", want service:id.`},
		{"ten_restart", map[string]any{"instance": "app:nobody"}, "Cannot restart app:nobody"},
		{"ten_restart", map[string]any{"instance": "app:a", "timeout": "soon"}, `Not a duration`},
		{"ten_drain", map[string]any{"node": "nobody"}, `Cannot drain node nobody: No node "nobody".`},
		{"ten_promote", map[string]any{"node": "nobody"}, `Cannot promote node nobody: No node "nobody".`},
	} {
		if _, problems := v.invoke(bad.action, bad.config); len(problems) != 1 || !strings.Contains(problems[0], bad.want) {
			t.Errorf("%s %v: got %q, want %q", bad.action, bad.config, problems, bad.want)
		}
	}
}
