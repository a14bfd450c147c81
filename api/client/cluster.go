package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/tenement-fleet/tenement/api"
)

// Cluster tells who leads the cluster and who its members are, as far as the node that
// answers knows.
func (c *Client) Cluster(ctx context.Context) (*api.ClusterStatus, error) {
	return get[api.ClusterStatus](ctx, c, "/api/cluster")
}

// Nodes lists the members of the cluster, by name.
func (c *Client) Nodes(ctx context.Context) ([]*api.Member, error) {
	return list[api.Member](ctx, c, request{method: http.MethodGet, path: "/api/nodes", again: true})
}

// Member returns one member of the cluster, by id or name.
func (c *Client) Member(ctx context.Context, node string) (*api.Member, error) {
	return get[api.Member](ctx, c, nodePath(node))
}

// SetEligibility says whether a node, named by id or name, may be given instances.
func (c *Client) SetEligibility(ctx context.Context, node string, e api.Eligibility, ifMatch *uint64) (*api.Node, error) {
	r := request{method: http.MethodPut, path: nodePath(node), body: api.NodeRequest{Eligibility: e}, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Node](ctx, c, r)
}

// RemoveNode takes a node out of the cluster for good; with force although it is up and
// has instances.
func (c *Client) RemoveNode(ctx context.Context, node string, force bool) error {
	return c.remove(ctx, nodePath(node), flagged("force", force), nil)
}

// Promote gives a node a vote.
func (c *Client) Promote(ctx context.Context, node string) (*api.Member, error) {
	return call[api.Member](ctx, c, request{method: http.MethodPost, path: nodePath(node) + "/promote", again: true, slow: true})
}

// WatchMember yields a node as it is and again after every change of the cluster's state;
// see [Client.WatchInstances].
func (c *Client) WatchMember(ctx context.Context, node string) iter.Seq2[*api.Member, error] {
	return watch[*api.Member](ctx, c, request{method: http.MethodGet, path: nodePath(node), again: true})
}

// Plan tells where instances would go, and why, if what the request holds were put first.
// It changes nothing.
func (c *Client) Plan(ctx context.Context, p api.PlanRequest) (*api.PlanResult, error) {
	return call[api.PlanResult](ctx, c, request{method: http.MethodPost, path: "/api/plan", body: p, again: true})
}

// Fleets lists the fleets of a service, or all with "", by name.
func (c *Client) Fleets(ctx context.Context, service string) ([]*api.Fleet, error) {
	r := request{method: http.MethodGet, path: "/api/fleets", again: true}
	if service != "" {
		r.query = url.Values{"service": {service}}
	}
	return list[api.Fleet](ctx, c, r)
}

// Fleet returns one fleet.
func (c *Client) Fleet(ctx context.Context, ref api.Ref) (*api.Fleet, error) {
	return get[api.Fleet](ctx, c, fleetPath(ref))
}

// PutFleet creates or replaces a fleet and returns it as stored; its members are there by
// then, but may not run yet. With ifMatch it fails with CodeStaleRevision unless that is
// the current revision.
func (c *Client) PutFleet(ctx context.Context, f *api.Fleet, ifMatch *uint64) (*api.Fleet, error) {
	r := request{method: http.MethodPut, path: fleetPath(f.Ref()), body: f, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Fleet](ctx, c, r)
}

// DeleteFleet removes a fleet and its instances.
func (c *Client) DeleteFleet(ctx context.Context, ref api.Ref, ifMatch *uint64) error {
	return c.remove(ctx, fleetPath(ref), nil, ifMatch)
}

// Routes lists the routes and what becomes of their requests now, by name.
func (c *Client) Routes(ctx context.Context) ([]*api.RouteStatus, error) {
	return list[api.RouteStatus](ctx, c, request{method: http.MethodGet, path: "/api/routes", again: true})
}

// StoredRoute returns one route and what becomes of its requests now. [Client.Route] is
// about a service's own host.
func (c *Client) StoredRoute(ctx context.Context, name string) (*api.RouteStatus, error) {
	return get[api.RouteStatus](ctx, c, routePath(name))
}

// WatchRoute yields a route as it is and again after every change of the cluster's state;
// see [Client.WatchInstances].
func (c *Client) WatchRoute(ctx context.Context, name string) iter.Seq2[*api.RouteStatus, error] {
	return watch[*api.RouteStatus](ctx, c, request{method: http.MethodGet, path: routePath(name), again: true})
}

// PutRoute creates or replaces a route and returns it as stored; the node that answers
// routes by it from then on. With ifMatch it fails with CodeStaleRevision unless that is
// the current revision.
func (c *Client) PutRoute(ctx context.Context, r *api.Route, ifMatch *uint64) (*api.Route, error) {
	put := request{method: http.MethodPut, path: routePath(r.Name), body: r, ifMatch: ifMatch, again: ifMatch == nil}
	return call[api.Route](ctx, c, put)
}

// DeleteRoute removes a route.
func (c *Client) DeleteRoute(ctx context.Context, name string, ifMatch *uint64) error {
	return c.remove(ctx, routePath(name), nil, ifMatch)
}

// JoinTokens lists the join tokens, without their hashes.
func (c *Client) JoinTokens(ctx context.Context) ([]*api.JoinToken, error) {
	return list[api.JoinToken](ctx, c, request{method: http.MethodGet, path: "/api/join-tokens", again: true})
}

// CreateJoinToken makes a join token. Its text is in the answer and nowhere else. A
// persistent client makes another one when nobody knows what became of the first, if that
// expires: a token whose text nobody has is of no use until then.
func (c *Client) CreateJoinToken(ctx context.Context, t api.JoinTokenRequest) (*api.CreatedJoinToken, error) {
	again := c.cfg.Persistent && t.ExpiresIn > 0
	return call[api.CreatedJoinToken](ctx, c, request{method: http.MethodPost, path: "/api/join-tokens", body: t, again: again})
}

// DeleteJoinToken revokes a join token.
func (c *Client) DeleteJoinToken(ctx context.Context, id string) error {
	return c.remove(ctx, "/api/join-tokens/"+url.PathEscape(id), nil, nil)
}

// Secret tells how far the rotation of the cluster's secret is.
func (c *Client) Secret(ctx context.Context) (*api.SecretStatus, error) {
	return get[api.SecretStatus](ctx, c, "/api/secret")
}

// RotateSecret begins to rotate the cluster's secret, which goes on by itself.
func (c *Client) RotateSecret(ctx context.Context) (*api.SecretStatus, error) {
	return call[api.SecretStatus](ctx, c, request{method: http.MethodPost, path: "/api/secret/rotate"})
}

// WatchSecret yields how far the rotation is, and again after every change of the
// cluster's state; see [Client.WatchInstances].
func (c *Client) WatchSecret(ctx context.Context) iter.Seq2[*api.SecretStatus, error] {
	return watch[*api.SecretStatus](ctx, c, request{method: http.MethodGet, path: "/api/secret", again: true})
}

// SaveSnapshot writes the cluster's whole state to w and returns how many bytes that
// were. What was written before an error is of no use.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (int64, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/api/cluster/snapshot", again: true, accept: mediaBinary})
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("read snapshot: %w", err)
	}
	return n, nil
}

// RestoreSnapshot replaces the cluster's whole state by what SaveSnapshot wrote, which r
// holds in size bytes; with force although it is of another cluster. It is sent once.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader, size int64, force bool) error {
	_, err := c.do(ctx, request{
		method: http.MethodPost, path: "/api/cluster/snapshot", query: flagged("force", force), stream: r, streamSize: size,
	}, nil)
	return err
}

// mediaBinary is the type of a snapshot.
const mediaBinary = "application/octet-stream"

func nodePath(node string) string { return "/api/nodes/" + url.PathEscape(node) }

func routePath(name string) string { return "/api/routes/" + url.PathEscape(name) }

func fleetPath(ref api.Ref) string { return "/api/fleets/" + url.PathEscape(ref.String()) }

func flagged(name string, on bool) url.Values {
	if !on {
		return nil
	}
	return url.Values{name: {"true"}}
}
