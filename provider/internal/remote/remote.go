// Package remote is the provider's side of the connection to a cluster: what Configure
// hands to every resource, data source and the rest, the server's dry run, and how errors
// of the API are told to the user of Terraform.
package remote

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/tenement-fleet/tenement/api/client"
)

// Remote is the cluster of a configured provider.
type Remote struct {
	client *client.Client
	plans  planned
}

// New returns a Remote. Without a client the provider's configuration is not known yet,
// as happens while a plan is made.
func New(c *client.Client) *Remote { return &Remote{client: c} }

// Known reports whether there is a cluster to talk to. As long as there is none, resources
// plan without it and leave the state as it is.
func (r *Remote) Known() bool { return r != nil && r.client != nil }

// Client returns the client, or nil once it has added an error that says why there is none.
func (r *Remote) Client(diags *diag.Diagnostics) *client.Client {
	if r.Known() {
		return r.client
	}
	diags.AddError("The cluster is not known yet",
		"The provider's configuration (endpoints, token or ca) depends on something that is known only after an apply. "+
			"Apply that first, with terraform apply -target=ADDRESS, or configure the provider with values that are known while planning.")
	return nil
}

// From returns what the provider's Configure handed out; nil before that, since Terraform
// validates without it.
func From(data any, diags *diag.Diagnostics) *Remote {
	if data == nil {
		return nil
	}
	r, ok := data.(*Remote)
	if !ok {
		diags.AddError("Provider misconfigured", fmt.Sprintf("This is a bug of the provider: it was handed a %T.", data))
	}
	return r
}
