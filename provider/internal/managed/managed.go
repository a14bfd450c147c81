// Package managed is what the provider's resources have in common: the life of an object
// that has a name, a revision and a PUT. Each resource adds its schema, its model and
// what is particular to it as a [Kind].
package managed

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// Model is the shape of a resource in Terraform, O that in the API.
type Model[M, O any] interface {
	*M
	// Expand returns the object that the model describes. What is null or unknown gets the
	// API's default.
	Expand(ctx context.Context) (*O, diag.Diagnostics)
	// Flatten makes the model describe the object. Values that mean the same keep their
	// spelling; what the API knows nothing of, such as timeouts, stays.
	Flatten(ctx context.Context, o *O) diag.Diagnostics
	// Options returns what the model says beside the object.
	Options() Options
}

// Options is what a model says beside the object.
type Options struct {
	WaitFor  string // "" if the resource has nothing to wait for
	Timeouts timeouts.Value
}

// Key names an object: the values of its identity attributes, in the order of Kind.Identity.
type Key []string

// Ref returns a key of two parts as a reference.
func (k Key) Ref() api.Ref { return api.Ref{Service: k[0], ID: k[1]} }

// ParseRef reads a key of the form service:id.
func ParseRef(id string) (Key, error) {
	ref, err := api.ParseRef(id)
	return Key{ref.Service, ref.ID}, err
}

// Kind is what is particular to a resource.
type Kind[M, O any, P Model[M, O]] struct {
	Type  string // after the provider's name: "service"
	Title string // in messages: "service"

	Schema schema.Schema
	// Identity lists the attributes, all of them required texts, that name the object.
	Identity []IdentityAttribute
	// ParseKey reads the id given to terraform import.
	ParseKey func(id string) (Key, error)
	KeyOf    func(*O) Key

	Get    func(ctx context.Context, c *client.Client, k Key) (*O, error)
	Put    func(ctx context.Context, c *client.Client, o *O, ifMatch *uint64) (*O, error)
	Delete func(ctx context.Context, c *client.Client, o *O, ifMatch *uint64) error
	// Validate checks an object, its defaults filled in.
	Validate func(*O) error
	// Revision returns the object's revision and Same whether two say the same, whoever
	// declared them.
	Revision func(*O) uint64
	Same     func(a, b *O) bool

	// What follows may be nil.

	// Claim refuses to take over an object that is there already although it is the same.
	Claim func(*O) error
	// Respell spells a part of o as in the other where that means the same to the cluster.
	Respell func(ctx context.Context, c *client.Client, as, o *O) error
	// Secrets adds what is in write-only attributes of the configuration to the object. The
	// API never answers it, so that Same can't tell.
	Secrets func(ctx context.Context, s Secrets[O]) diag.Diagnostics
	// Wait returns once the object is as Options.WaitFor wants it, or with the reason why not.
	Wait func(ctx context.Context, c *client.Client, o *O, waitFor string) error
	// Plan completes a plan and tells by a dry run what would go wrong.
	Plan func(ctx context.Context, p Planning[M])
	// Check validates a configuration beyond what the API's own rules say.
	Check func(ctx context.Context, config *M) diag.Diagnostics
	// InUse is the error with which Delete refuses, if any.
	InUse func(ctx context.Context, c *client.Client, o *O) error
	// Upgrades convert states of older schema versions.
	Upgrades map[int64]resource.StateUpgrader
	// Moves convert the states of other resources.
	Moves []resource.StateMover
	// List returns the objects that there are, for [NewList].
	List func(ctx context.Context, c *client.Client, f Filter) ([]*O, error)
	// OfService says that the objects belong to services.
	OfService bool

	layout layout
}

// IdentityAttribute is one part of a resource's identity.
type IdentityAttribute struct{ Name, About string }

// Secrets is what Kind.Secrets works with.
type Secrets[O any] struct {
	Config tfsdk.Config // the one place where write-only values are
	Plan   tfsdk.Plan
	State  tfsdk.State // null while it is created
	// Current is the object as the cluster has it, nil while it is created; To is the one
	// that will be put.
	Current, To *O
}

// Planning is what Kind.Plan works with.
type Planning[M any] struct {
	Remote      *remote.Remote
	Plan, State *M // State is nil for what is to be created
	Request     resource.ModifyPlanRequest
	Response    *resource.ModifyPlanResponse
}

// Private is a resource's private state.
type Private interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// Resource is a resource of some kind.
type Resource[M, O any, P Model[M, O]] struct {
	kind   *Kind[M, O, P]
	remote *remote.Remote
}

// New returns a resource of a kind.
func New[M, O any, P Model[M, O]](k *Kind[M, O, P]) *Resource[M, O, P] {
	return &Resource[M, O, P]{kind: k}
}

// Metadata implements resource.Resource.
func (r *Resource[M, O, P]) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + r.kind.Type
}

// Schema implements resource.Resource.
func (r *Resource[M, O, P]) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = r.kind.Schema
}

// IdentitySchema implements resource.ResourceWithIdentity.
func (r *Resource[M, O, P]) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema.Attributes = map[string]identityschema.Attribute{}
	for _, a := range r.kind.Identity {
		resp.IdentitySchema.Attributes[a.Name] = identityschema.StringAttribute{RequiredForImport: true, Description: a.About}
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *Resource[M, O, P]) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// UpgradeState implements resource.ResourceWithUpgradeState.
func (r *Resource[M, O, P]) UpgradeState(context.Context) map[int64]resource.StateUpgrader {
	return r.kind.Upgrades
}

// MoveState implements resource.ResourceWithMoveState.
func (r *Resource[M, O, P]) MoveState(context.Context) []resource.StateMover { return r.kind.Moves }
