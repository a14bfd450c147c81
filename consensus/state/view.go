package state

import (
	"crypto/sha256"
	"iter"

	"github.com/tenement-fleet/tenement/api"
)

// View is one version of the state. It never changes, costs nothing to hold but the
// memory of what has changed since, and every object it returns is shared: read only.
type View struct {
	data
	changed chan struct{}
}

// Index returns how many commands have changed anything so far: commands that failed,
// or found things as they wanted them, don't count. It orders all versions, and is what
// revisions and events carry.
func (v *View) Index() uint64 { return v.index }

// Changed returns a channel that is closed by the first change after v.
func (v *View) Changed() <-chan struct{} { return v.changed }

// ClusterID returns the cluster's id, "" before it has one.
func (v *View) ClusterID() string { return v.clusterID }

// Service returns the named service.
func (v *View) Service(name string) (*api.Service, bool) {
	s, ok := v.services.get(name)
	if !ok {
		return nil, false
	}
	return s.spec, true
}

// Services yields every service, ordered by name.
func (v *View) Services() iter.Seq[*api.Service] {
	return func(yield func(*api.Service) bool) {
		for s := range v.services.all() {
			if !yield(s.spec) {
				return
			}
		}
	}
}

// Instance returns the named instance.
func (v *View) Instance(ref api.Ref) (*api.Instance, bool) { return v.instances.get(ref) }

// Instances yields the instances of a service, or of all with "", ordered by service
// and id.
func (v *View) Instances(service string) iter.Seq[*api.Instance] {
	if service == "" {
		return v.instances.all()
	}
	return func(yield func(*api.Instance) bool) {
		for i := range v.instances.from(api.Ref{Service: service}) {
			if i.Service != service || !yield(i) {
				return
			}
		}
	}
}

// InstanceCount returns the number of instances of a service, or of all with "".
func (v *View) InstanceCount(service string) int {
	if service == "" {
		return v.instances.len
	}
	if s, ok := v.services.get(service); ok {
		return s.instances
	}
	return 0
}

// Unplaced yields the instances that are on no node, ordered by service and id.
func (v *View) Unplaced() iter.Seq[*api.Instance] { return v.onNode("") }

// InstancesOn yields the instances that are placed on a node, ordered by service and id.
func (v *View) InstancesOn(node string) iter.Seq[*api.Instance] { return v.onNode(node) }

func (d *data) onNode(node string) iter.Seq[*api.Instance] {
	t := d.byNode // as it is now, however d goes on
	return func(yield func(*api.Instance) bool) {
		for i := range t.from(placed{node: node}) {
			if i.Node != node || !yield(i) {
				return
			}
		}
	}
}

// InstanceCountOn returns the number of instances that are placed on a node.
func (v *View) InstanceCountOn(node string) int {
	if h, ok := v.nodes.get(node); ok {
		return h.instances
	}
	return 0
}

// Moving yields the instances whose previous node still serves them, or whose data are
// on another node than they, ordered by service and id.
func (v *View) Moving() iter.Seq[*api.Instance] { return v.moving.all() }

// Fleet returns a fleet by its name in the form service:name.
func (v *View) Fleet(ref api.Ref) (*api.Fleet, bool) { return v.fleets.get(ref) }

// Fleets yields the fleets of a service, or all with "", ordered by service and name.
func (v *View) Fleets(service string) iter.Seq[*api.Fleet] {
	if service == "" {
		return v.fleets.all()
	}
	return func(yield func(*api.Fleet) bool) {
		for f := range v.fleets.from(api.Ref{Service: service}) {
			if f.Service != service || !yield(f) {
				return
			}
		}
	}
}

// Node returns a node by id.
func (v *View) Node(id string) (*api.Node, bool) {
	h, ok := v.nodes.get(id)
	if !ok {
		return nil, false
	}
	return h.spec, true
}

// Nodes yields every node, ordered by id.
func (v *View) Nodes() iter.Seq[*api.Node] {
	return func(yield func(*api.Node) bool) {
		for h := range v.nodes.all() {
			if !yield(h.spec) {
				return
			}
		}
	}
}

// JoinToken returns a join token by id.
func (v *View) JoinToken(id string) (*api.JoinToken, bool) { return v.joinTokens.get(id) }

// JoinTokens yields every join token, ordered by id.
func (v *View) JoinTokens() iter.Seq[*api.JoinToken] { return v.joinTokens.all() }

// Secret returns where the rotation of the cluster's secret stands; nil before the first.
func (v *View) Secret() *Secret { return v.secret }

// Sealed returns a sealed value by name.
func (v *View) Sealed(name string) (*Sealed, bool) { return v.sealed.get(name) }

// AllSealed yields every sealed value, ordered by name.
func (v *View) AllSealed() iter.Seq[*Sealed] { return v.sealed.all() }

// Route returns the named route.
func (v *View) Route(name string) (*api.Route, bool) { return v.routes.get(name) }

// Routes yields every route, ordered by name.
func (v *View) Routes() iter.Seq[*api.Route] { return v.routes.all() }

// Token returns a token by id.
func (v *View) Token(id string) (*api.Token, bool) { return v.tokens.get(id) }

// Tokens yields every token, ordered by id.
func (v *View) Tokens() iter.Seq[*api.Token] { return v.tokens.all() }

// Hash returns the SHA-256 of the view's snapshot: two nodes at one index have the same
// hash, or one of them is wrong.
func (v *View) Hash() [sha256.Size]byte {
	h := sha256.New()
	// Writing to a hash can't fail, and everything stored has been JSON before.
	_, _ = v.WriteTo(h)
	return [sha256.Size]byte(h.Sum(nil))
}

// equalObserved compares what the two mean, not where their pointers point.
func equalObserved(a, b *api.Observed) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Endpoint, x.ExitCode, x.Since = y.Endpoint, y.ExitCode, y.Since
	return x == y && a.Since.Equal(b.Since) && equalPtr(a.Endpoint, b.Endpoint) && equalPtr(a.ExitCode, b.ExitCode)
}

func equalPtr[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
