// Package node is the resource ten_node and the data sources ten_node and ten_nodes.
package node

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
	"github.com/tenement-fleet/tenement/provider/internal/waiting"
)

// waitDrained is the value of wait_for that waits for a node to be empty.
const waitDrained = "drained"

// Model is a ten_node.
type Model struct {
	Node        types.String   `tfsdk:"node"`
	Eligibility types.String   `tfsdk:"eligibility"`
	WaitFor     types.String   `tfsdk:"wait_for"`
	Timeouts    timeouts.Value `tfsdk:"timeouts"`
}

// object is what users write of a node.
type object struct {
	Node        string // name or id, as it was written
	Eligibility api.Eligibility
}

// Options implements managed.Model.
func (m *Model) Options() managed.Options {
	waitFor := m.WaitFor.ValueString()
	if waitFor == "" {
		waitFor = waitDrained
	}
	return managed.Options{WaitFor: waitFor, Timeouts: m.Timeouts}
}

// Expand implements managed.Model.
func (m *Model) Expand(context.Context) (*object, diag.Diagnostics) {
	return &object{Node: m.Node.ValueString(), Eligibility: managed.TextOr(m.Eligibility, api.EligibilityEligible)}, nil
}

// Flatten implements managed.Model.
func (m *Model) Flatten(_ context.Context, o *object) diag.Diagnostics {
	m.Node, m.Eligibility = types.StringValue(o.Node), types.StringValue(string(o.Eligibility))
	return nil
}

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// NewList returns the list resource.
func NewList() list.ListResource { return managed.NewList(kind()) }

func kind() *managed.Kind[Model, object, *Model] {
	return &managed.Kind[Model, object, *Model]{
		Type: "node", Title: "node", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{{Name: "node", About: "The node's name or id."}},
		ParseKey: func(id string) (managed.Key, error) { return managed.Key{id}, nil },
		KeyOf:    func(o *object) managed.Key { return managed.Key{o.Node} },
		Get: func(ctx context.Context, c *client.Client, k managed.Key) (*object, error) {
			o, _, err := get(ctx, c, k[0])
			return o, err
		},
		Put: put,
		Delete: func(ctx context.Context, c *client.Client, o *object, ifMatch *uint64) error {
			_, err := put(ctx, c, &object{Node: o.Node, Eligibility: api.EligibilityEligible}, ifMatch)
			return err
		},
		Validate: validate,
		Revision: revision,
		Same:     func(a, b *object) bool { return *a == *b },
		Wait: func(ctx context.Context, c *client.Client, o *object, _ string) error {
			if o.Eligibility != api.EligibilityDraining {
				return nil
			}
			return waiting.Drained(ctx, c, o.Node, func(string) {})
		},
		Plan: plan,
		List: func(ctx context.Context, c *client.Client, _ managed.Filter) ([]*object, error) {
			members, err := c.Nodes(ctx)
			out := make([]*object, len(members))
			for i, n := range members {
				out[i] = &object{Node: n.Name, Eligibility: n.Eligibility}
			}
			return out, err
		},
	}
}

func get(ctx context.Context, c *client.Client, name string) (*object, *api.Member, error) {
	n, err := c.Member(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return &object{Node: name, Eligibility: n.Eligibility}, n, nil
}

// revision stands for what users write of a node. The node's own revision won't do: it
// changes whenever the node is started or can't be reached.
func revision(o *object) uint64 {
	for i, e := range api.Eligibilities() {
		if e == o.Eligibility {
			return uint64(i) + 1 //nolint:gosec // small
		}
	}
	return 0
}

// put says what a node is eligible for, unless somebody else has said so since ifMatch was
// its revision. A revision of 0 adopts the node: it was made by joining.
func put(ctx context.Context, c *client.Client, o *object, ifMatch *uint64) (*object, error) {
	for {
		is, n, err := get(ctx, c, o.Node)
		switch {
		case err != nil:
			return nil, err
		case is.Eligibility == o.Eligibility:
			return is, nil
		case ifMatch != nil && *ifMatch != 0 && *ifMatch != revision(is):
			return nil, api.Errorf(api.CodeStaleRevision, "node %s is %s", o.Node, is.Eligibility)
		}
		_, err = c.SetEligibility(ctx, n.ID, o.Eligibility, &n.Revision)
		if err == nil {
			return o, nil
		}
		if !managed.IsCode(err, api.CodeStaleRevision) { // else the node has changed: look again
			return nil, err
		}
	}
}

func validate(o *object) error {
	var errs api.FieldErrors
	if o.Node == "" {
		errs = append(errs, api.FieldError{Field: "node", Got: o.Node, Want: "the name or id of a node"})
	}
	if revision(o) == 0 {
		errs = append(errs, api.FieldError{Field: "eligibility", Got: string(o.Eligibility), Want: `one of "eligible", "cordoned", "draining"`})
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// plan tells what would stay on a node that is to be drained, for no other takes it.
func plan(ctx context.Context, p managed.Planning[Model]) {
	m := p.Plan
	if m.Node.IsUnknown() || m.Eligibility.ValueString() != string(api.EligibilityDraining) || !p.Remote.Known() {
		return
	}
	if p.State != nil && p.State.Eligibility.Equal(m.Eligibility) && p.State.Node.Equal(m.Node) {
		return
	}
	name := m.Node.ValueString()
	diags := &p.Response.Diagnostics
	res, err := p.Remote.DryRun(ctx, "", api.PlanRequest{Drain: []string{name}})
	if managed.IsCode(err, api.CodeNotFound) {
		diags.AddAttributeWarning(path.Root("node"), fmt.Sprintf("There is no node %s yet", name),
			"It has to have joined the cluster when this is applied: "+err.Error()+".")
		return
	}
	subject := remote.Subject{Name: "what is on node " + name, In: p.Response.Plan.Schema, Blame: func(string) path.Path { return path.Root("eligibility") }}
	if err != nil {
		p.Remote.Judge(ctx, diags, subject, nil, err)
		return
	}
	_, n, err := get(ctx, p.Remote.Client(diags), name)
	if err != nil {
		return // the dry run has just found it: an apply will tell
	}
	if stuck := waiting.Stuck(res, n.ID, nil); len(stuck) > 0 {
		diags.AddAttributeWarning(path.Root("eligibility"), "Node "+name+" can't be emptied", waiting.StuckText(n.Name, stuck))
	}
}

func resourceSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "A server that has joined the cluster, and what it may be given. Creating the resource adopts the node, destroying it " +
			"makes the node eligible again: it never joins a server and never removes one. Region, zone, labels and capacity are what the " +
			"server itself says at its start (`[cluster]` in its `tenement.toml`), and can't be set from here.",
		Attributes: map[string]schema.Attribute{
			"node": managed.NameAttribute("The node's name or id."),
			"eligibility": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.EligibilityEligible)),
				MarkdownDescription: "`eligible` (the default), `cordoned` (it keeps what it has and gets nothing new) or `draining` (and what it has " +
					"moves to other nodes, without refusing a request).",
			},
			"wait_for": schema.StringAttribute{
				Optional: true, Validators: []validator.String{stringvalidator.OneOf(waitDrained, managed.WaitNone)},
				MarkdownDescription: "What an apply that drains waits for: `drained` (the default: no instance is left on the node) or `none`.",
			},
			"timeouts": managed.TimeoutsAttribute(),
		},
	}
}
