package provider_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// BenchmarkInstance is what Terraform asks of the provider to create an instance, and to
// find that it is unchanged, without Terraform, its connection and a cluster.
func BenchmarkInstance(b *testing.B) {
	stored := []byte(`{}`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderIndex, "7")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/plan"):
			fmt.Fprint(w, `{"index":7,"changes":[{"ref":"web:blue","node":"n","reason":"new"}]}`)
			return
		case r.Method == http.MethodPut:
			var i api.Instance
			if err := json.NewDecoder(r.Body).Decode(&i); err != nil {
				b.Error(err)
			}
			i.Revision, i.Node, i.Generation = 7, "n", 1
			i.Observed = &api.Observed{State: api.StateRunning, Healthy: true, Generation: 1, Desired: api.DesiredRunning}
			stored, _ = json.Marshal(i)
		}
		_, _ = w.Write(stored)
	}))
	b.Cleanup(s.Close)
	p := acctest.Speak(b)
	p.Must(nil, p.Configure(config{"endpoints": []any{s.URL}, "token": "x"}))
	schema := p.Schemas.ResourceSchemas["ten_instance"]
	given := p.Value(schema, config{"service": "web", "id": "blue"})
	proposed := p.Value(schema, config{"service": "web", "id": "blue", "desired": acctest.Unknown, "weight": acctest.Unknown, "ref": acctest.Unknown})
	ctx := b.Context()
	for b.Loop() {
		valid, err := p.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{TypeName: "ten_instance", Config: given})
		p.Must(err, valid.Diagnostics)
		planned, err := p.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
			TypeName: "ten_instance", PriorState: p.Null(schema), ProposedNewState: proposed, Config: given,
		})
		p.Must(err, planned.Diagnostics)
		applied, err := p.ApplyResourceChange(ctx, &tfprotov6.ApplyResourceChangeRequest{
			TypeName: "ten_instance", PriorState: p.Null(schema), PlannedState: planned.PlannedState, Config: given, PlannedPrivate: planned.PlannedPrivate,
		})
		p.Must(err, applied.Diagnostics)
		read, err := p.ReadResource(ctx, &tfprotov6.ReadResourceRequest{TypeName: "ten_instance", CurrentState: applied.NewState, Private: applied.Private})
		p.Must(err, read.Diagnostics)
	}
}
