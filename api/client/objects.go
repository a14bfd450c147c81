package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/tenement-fleet/tenement/api"
)

// Services lists every service, by name.
func (c *Client) Services(ctx context.Context) ([]*api.Service, error) {
	return list[api.Service](ctx, c, request{method: http.MethodGet, path: "/api/services", again: true})
}

// Service returns one service.
func (c *Client) Service(ctx context.Context, name string) (*api.Service, error) {
	return get[api.Service](ctx, c, "/api/services/"+url.PathEscape(name))
}

// PutService creates or replaces a service and returns it as stored. With ifMatch it
// fails with CodeStaleRevision unless that is the current revision.
func (c *Client) PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error) {
	r := request{method: http.MethodPut, path: "/api/services/" + url.PathEscape(s.Name), body: s, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Service](ctx, c, r)
}

// DeleteService removes a service and its instances.
func (c *Client) DeleteService(ctx context.Context, name string, ifMatch *uint64) error {
	return c.remove(ctx, "/api/services/"+url.PathEscape(name), nil, ifMatch)
}

// InstanceQuery selects instances. Zero fields don't restrict.
type InstanceQuery struct {
	Service string
	Node    string // id or name
	Live    bool   // only those that have, or are about to have, a process
}

func (q InstanceQuery) request() request {
	v := url.Values{}
	if q.Service != "" {
		v.Set("service", q.Service)
	}
	if q.Node != "" {
		v.Set("node", q.Node)
	}
	if q.Live {
		v.Set("live", "true")
	}
	return request{method: http.MethodGet, path: "/api/instances", query: v, again: true}
}

// Instances lists instances, by name.
func (c *Client) Instances(ctx context.Context, q InstanceQuery) ([]*api.Instance, error) {
	return list[api.Instance](ctx, c, q.request())
}

// Instance returns one instance.
func (c *Client) Instance(ctx context.Context, ref api.Ref) (*api.Instance, error) {
	return get[api.Instance](ctx, c, instancePath(ref, ""))
}

// PutInstance creates or replaces what users write of an instance: Desired and Weight.
func (c *Client) PutInstance(ctx context.Context, i *api.Instance, ifMatch *uint64) (*api.Instance, error) {
	r := request{method: http.MethodPut, path: instancePath(i.Ref(), ""), body: i, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Instance](ctx, c, r)
}

// Spawn creates an instance, or starts one that exists, and returns once it accepts
// connections.
func (c *Client) Spawn(ctx context.Context, ref api.Ref) (*api.Instance, error) {
	body := api.SpawnRequest{Process: ref.Service, ID: ref.ID}
	return call[api.Instance](ctx, c, request{method: http.MethodPost, path: "/api/instances/spawn", body: body, again: true, slow: true})
}

// Stop puts an instance to sleep and takes it out of weighted traffic; with hold it stays
// down until somebody starts it. It returns once the program has ended or had its time.
func (c *Client) Stop(ctx context.Context, ref api.Ref, hold bool) (*api.Instance, error) {
	v := url.Values{}
	if hold {
		v.Set("hold", "true")
	}
	return call[api.Instance](ctx, c, request{method: http.MethodDelete, path: instancePath(ref, ""), query: v, again: true, slow: true})
}

// Purge stops an instance and removes it.
func (c *Client) Purge(ctx context.Context, ref api.Ref) error {
	return c.DeleteInstance(ctx, ref, nil)
}

// DeleteInstance is Purge; with ifMatch it fails with CodeStaleRevision unless that is
// the current revision.
func (c *Client) DeleteInstance(ctx context.Context, ref api.Ref, ifMatch *uint64) error {
	return c.remove(ctx, instancePath(ref, ""), url.Values{"purge": {"true"}}, ifMatch)
}

// Restart stops and starts an instance and returns once it accepts connections.
func (c *Client) Restart(ctx context.Context, ref api.Ref) (*api.Instance, error) {
	return call[api.Instance](ctx, c, request{method: http.MethodPost, path: instancePath(ref, "/restart"), slow: true})
}

// SetWeight sets an instance's share of weighted traffic.
func (c *Client) SetWeight(ctx context.Context, ref api.Ref, weight int) (*api.Instance, error) {
	r := request{method: http.MethodPut, path: instancePath(ref, "/weight"), body: api.WeightRequest{Weight: &weight}, again: true}
	return call[api.Instance](ctx, c, r)
}

// InstanceHealth tells how an instance does.
func (c *Client) InstanceHealth(ctx context.Context, ref api.Ref) (*api.Health, error) {
	return get[api.Health](ctx, c, instancePath(ref, "/health"))
}

// Storage tells what an instance keeps on disk.
func (c *Client) Storage(ctx context.Context, ref api.Ref) (*api.Storage, error) {
	return get[api.Storage](ctx, c, instancePath(ref, "/storage"))
}

// Deploy runs an instance and returns once it is healthy and has its weight.
func (c *Client) Deploy(ctx context.Context, d api.DeployRequest) (*api.Instance, error) {
	return call[api.Instance](ctx, c, request{method: http.MethodPost, path: "/api/deploy", body: d, again: true, slow: true})
}

// Route moves the weighted traffic of a service from one instance to another.
func (c *Client) Route(ctx context.Context, r api.RouteRequest) (*api.RouteResult, error) {
	return call[api.RouteResult](ctx, c, request{method: http.MethodPost, path: "/api/route", body: r, again: true})
}

// Tokens lists the tokens, without their hashes.
func (c *Client) Tokens(ctx context.Context) ([]*api.Token, error) {
	return list[api.Token](ctx, c, request{method: http.MethodGet, path: "/api/tokens", again: true})
}

// CreateToken makes a token. Its secret is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, t api.TokenRequest) (*api.CreatedToken, error) {
	return call[api.CreatedToken](ctx, c, request{method: http.MethodPost, path: "/api/tokens", body: t})
}

// PutToken makes a token of a secret that the server is not told, or changes one; it may
// be repeated. With ifMatch it fails with CodeStaleRevision unless that is the current
// revision.
func (c *Client) PutToken(ctx context.Context, id string, t api.TokenPut, ifMatch *uint64) (*api.Token, error) {
	r := request{method: http.MethodPut, path: "/api/tokens/" + url.PathEscape(id), body: t, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Token](ctx, c, r)
}

// DeleteToken revokes a token.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.remove(ctx, "/api/tokens/"+url.PathEscape(id), nil, nil)
}

// Node describes the node that answers.
func (c *Client) Node(ctx context.Context) (*api.Node, error) {
	return get[api.Node](ctx, c, "/api/node")
}

// Telemetry returns the node's figures.
func (c *Client) Telemetry(ctx context.Context) (*api.Telemetry, error) {
	return get[api.Telemetry](ctx, c, "/api/telemetry")
}

// ServerHealth asks the server whether it serves.
func (c *Client) ServerHealth(ctx context.Context) (*api.ServerHealth, error) {
	return get[api.ServerHealth](ctx, c, "/health")
}

// Upgrade makes the serving ten hand over to a new process and returns once that serves.
func (c *Client) Upgrade(ctx context.Context, u api.UpgradeRequest) (*api.UpgradeResult, error) {
	return call[api.UpgradeResult](ctx, c, request{method: http.MethodPost, path: "/api/upgrade", body: u, slow: true})
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path, again: true})
}

func call[T any](ctx context.Context, c *Client, r request) (*T, error) {
	out := new(T)
	if _, err := c.do(ctx, r, out); err != nil {
		return nil, err
	}
	return out, nil
}

func list[T any](ctx context.Context, c *Client, r request) ([]*T, error) {
	var out []*T
	if _, err := c.do(ctx, r, &out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) remove(ctx context.Context, path string, query url.Values, ifMatch *uint64) error {
	r := request{method: http.MethodDelete, path: path, query: query, ifMatch: ifMatch, again: ifMatch == nil}
	_, err := c.do(ctx, r, nil)
	return err
}

func instancePath(ref api.Ref, rest string) string {
	return "/api/instances/" + url.PathEscape(ref.String()) + rest
}
