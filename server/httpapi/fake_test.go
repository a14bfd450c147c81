package httpapi

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

const thisNode = "node-1"

// fakeCluster is a state in memory. A new instance is placed at once, and onInstance, if
// set, is told of every one that changed.
type fakeCluster struct {
	mu         sync.Mutex
	view       *fakeView
	events     []api.Event
	floor      uint64 // of events
	onInstance func(*api.Instance)
	waits      chan struct{} // closed when somebody waits for a change
}

// nextWait returns a channel that is closed when the next wait for a change begins.
func (c *fakeCluster) nextWait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = make(chan struct{})
	return c.waits
}

func (c *fakeCluster) waited() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits != nil {
		close(c.waits)
		c.waits = nil
	}
}

type fakeView struct {
	cluster   *fakeCluster
	index     uint64
	changed   chan struct{}
	services  map[string]*api.Service
	instances map[api.Ref]*api.Instance
	tokens    map[string]*api.Token
	fleets    map[api.Ref]*api.Fleet
	routes    map[string]*api.Route
	nodes     []*api.Node
	joins     map[string]*api.JoinToken
}

func (v *fakeView) Index() uint64            { return v.index }
func (v *fakeView) Changed() <-chan struct{} { v.cluster.waited(); return v.changed }

func (v *fakeView) Service(name string) (*api.Service, bool) { s, ok := v.services[name]; return s, ok }
func (v *fakeView) Token(id string) (*api.Token, bool)       { t, ok := v.tokens[id]; return t, ok }
func (v *fakeView) Services() iter.Seq[*api.Service]         { return byKey(v.services, cmp.Compare) }
func (v *fakeView) Tokens() iter.Seq[*api.Token]             { return byKey(v.tokens, cmp.Compare) }

func (v *fakeView) Instance(ref api.Ref) (*api.Instance, bool) {
	i, ok := v.instances[ref]
	return i, ok
}

func compareRefs(a, b api.Ref) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
}

func (v *fakeView) Instances(service string) iter.Seq[*api.Instance] {
	return func(yield func(*api.Instance) bool) {
		for i := range byKey(v.instances, compareRefs) {
			if (service == "" || i.Service == service) && !yield(i) {
				return
			}
		}
	}
}

func (v *fakeView) Fleet(ref api.Ref) (*api.Fleet, bool) { f, ok := v.fleets[ref]; return f, ok }

func (v *fakeView) Fleets(service string) iter.Seq[*api.Fleet] {
	return func(yield func(*api.Fleet) bool) {
		for f := range byKey(v.fleets, compareRefs) {
			if (service == "" || f.Service == service) && !yield(f) {
				return
			}
		}
	}
}

func (v *fakeView) JoinToken(id string) (*api.JoinToken, bool) { t, ok := v.joins[id]; return t, ok }

func (v *fakeView) JoinTokens() iter.Seq[*api.JoinToken] { return byKey(v.joins, cmp.Compare) }
func (v *fakeView) Nodes() iter.Seq[*api.Node]           { return slices.Values(v.nodes) }

func (v *fakeView) Node(id string) (*api.Node, bool) {
	i := slices.IndexFunc(v.nodes, func(n *api.Node) bool { return n.ID == id })
	if i < 0 {
		return nil, false
	}
	return v.nodes[i], true
}

func byKey[K comparable, V any](m map[K]V, order func(a, b K) int) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(m), order) {
			if !yield(m[k]) {
				return
			}
		}
	}
}

func newFakeCluster() *fakeCluster {
	c := &fakeCluster{}
	c.view = &fakeView{
		cluster: c, index: 10, changed: make(chan struct{}), services: map[string]*api.Service{},
		instances: map[api.Ref]*api.Instance{}, tokens: map[string]*api.Token{},
		fleets: map[api.Ref]*api.Fleet{many: {Service: "notes", Name: "many", Replicas: 3, Revision: 2}},
		routes: map[string]*api.Route{"notes": {
			Name: "notes", Hosts: []string{"notes.test"}, Backends: []api.Backend{{Service: "notes"}}, Mode: api.RouteLive, Source: api.SourceAPI, Revision: 2,
		}},
		joins: map[string]*api.JoinToken{firstJoin: {ID: firstJoin, SHA256: make([]byte, 32), Revision: 2}},
		nodes: []*api.Node{
			{ID: thisNode, Name: "one", Eligibility: api.EligibilityEligible, Revision: 3, SecretIDs: []string{"s1"}},
			{ID: "node-2", Name: "two", Eligibility: api.EligibilityEligible, Revision: 4, SecretIDs: []string{"s1"}},
			{ID: "node-0", Name: "two", Status: api.NodeDown, Eligibility: api.EligibilityEligible, Revision: 5},
		},
	}
	return c
}

func (c *fakeCluster) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// change makes the next version of the state; change gets a copy to work on.
func (c *fakeCluster) change(change func(v *fakeView) ([]api.Event, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &fakeView{
		cluster: c, index: c.view.index + 1, changed: make(chan struct{}), services: maps.Clone(c.view.services),
		instances: maps.Clone(c.view.instances), tokens: maps.Clone(c.view.tokens),
		fleets: maps.Clone(c.view.fleets), routes: maps.Clone(c.view.routes), joins: maps.Clone(c.view.joins), nodes: slices.Clone(c.view.nodes),
	}
	events, err := change(next)
	if err != nil || len(events) == 0 {
		return err
	}
	for i := range events {
		events[i].Index = next.index
	}
	c.events = append(c.events, events...)
	before := c.view
	c.view = next
	close(before.changed)
	return nil
}

func (c *fakeCluster) Events(after uint64) ([]api.Event, <-chan struct{}, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after < c.floor {
		return nil, c.view.changed, false
	}
	i := slices.IndexFunc(c.events, func(e api.Event) bool { return e.Index > after })
	if i < 0 {
		return nil, c.view.changed, true
	}
	return slices.Clone(c.events[i:]), c.view.changed, true
}

func checkMatch(want *uint64, have uint64) error {
	if want != nil && *want != have {
		return api.Errorf(api.CodeStaleRevision, "revision is %d, not %d", have, *want)
	}
	return nil
}

func (c *fakeCluster) PutService(_ context.Context, s *api.Service, ifMatch *uint64) (out *api.Service, err error) {
	err = c.change(func(v *fakeView) ([]api.Event, error) {
		var have uint64
		if cur, ok := v.services[s.Name]; ok {
			if have = cur.Revision; cur.Equal(s) {
				out = cur
				return nil, checkMatch(ifMatch, have)
			}
		}
		if err := checkMatch(ifMatch, have); err != nil {
			return nil, err
		}
		out = s.Clone()
		out.Revision = v.index
		v.services[s.Name] = out
		return []api.Event{{Type: api.EventServiceUpdated, Key: s.Name, Service: out}}, nil
	})
	return out, err
}

func (c *fakeCluster) DeleteService(_ context.Context, name string, ifMatch *uint64) (uint64, error) {
	err := c.change(func(v *fakeView) ([]api.Event, error) {
		s, ok := v.services[name]
		if !ok {
			return nil, api.Errorf(api.CodeNotFound, "gone")
		}
		if err := checkMatch(ifMatch, s.Revision); err != nil {
			return nil, err
		}
		delete(v.services, name)
		var events []api.Event
		for ref := range v.instances {
			if ref.Service == name {
				delete(v.instances, ref)
				events = append(events, api.Event{Type: api.EventInstanceDeleted, Key: ref.String()})
			}
		}
		return append(events, api.Event{Type: api.EventServiceDeleted, Key: name}), nil
	})
	return c.View().Index(), err
}

func (c *fakeCluster) PutInstance(_ context.Context, i *api.Instance, ifMatch *uint64) (out *api.Instance, err error) {
	err = c.change(func(v *fakeView) ([]api.Event, error) {
		if _, ok := v.services[i.Service]; !ok {
			return nil, api.Errorf(api.CodeNotFound, "no service")
		}
		out = i.Clone()
		out.Node, out.Generation, out.Observed = thisNode, 1, nil
		var have uint64
		if cur, ok := v.instances[i.Ref()]; ok {
			have = cur.Revision
			if err := checkMatch(ifMatch, have); err != nil {
				return nil, err
			}
			if cur.Equal(i) {
				out = cur
				return nil, nil
			}
			out.Node, out.Generation, out.Observed = cur.Node, cur.Generation, cur.Observed
		}
		if err := checkMatch(ifMatch, have); err != nil {
			return nil, err
		}
		out.Revision = v.index
		v.instances[i.Ref()] = out
		return []api.Event{{Type: api.EventInstanceUpdated, Key: i.Ref().String(), Instance: out}}, nil
	})
	if err == nil && c.onInstance != nil {
		c.onInstance(out)
	}
	return out, err
}

func (c *fakeCluster) DeleteInstance(_ context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	err := c.change(func(v *fakeView) ([]api.Event, error) {
		i, ok := v.instances[ref]
		if !ok {
			return nil, api.Errorf(api.CodeNotFound, "gone")
		}
		if err := checkMatch(ifMatch, i.Revision); err != nil {
			return nil, err
		}
		delete(v.instances, ref)
		return []api.Event{{Type: api.EventInstanceDeleted, Key: ref.String()}}, nil
	})
	return c.View().Index(), err
}

func (c *fakeCluster) PutFleet(_ context.Context, f *api.Fleet, ifMatch *uint64) (out *api.Fleet, err error) {
	err = c.change(func(v *fakeView) ([]api.Event, error) {
		var have uint64
		if cur, ok := v.fleets[f.Ref()]; ok {
			have = cur.Revision
		}
		if err := checkMatch(ifMatch, have); err != nil {
			return nil, err
		}
		out = f.Clone()
		out.Revision = v.index
		v.fleets[f.Ref()] = out
		return []api.Event{{Type: api.EventFleetUpdated, Key: f.Ref().String(), Fleet: out}}, nil
	})
	return out, err
}

func (c *fakeCluster) DeleteFleet(_ context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	err := c.change(func(v *fakeView) ([]api.Event, error) {
		if err := checkMatch(ifMatch, v.fleets[ref].Revision); err != nil {
			return nil, err
		}
		delete(v.fleets, ref)
		return []api.Event{{Type: api.EventFleetDeleted, Key: ref.String()}}, nil
	})
	return c.View().Index(), err
}

func (c *fakeCluster) PutToken(_ context.Context, t *api.Token, ifMatch *uint64) (out *api.Token, err error) {
	err = c.change(func(v *fakeView) ([]api.Event, error) {
		var current uint64
		if have := v.tokens[t.ID]; have != nil {
			current = have.Revision
		}
		if ifMatch != nil && *ifMatch != current {
			return nil, api.Errorf(api.CodeStaleRevision, "the revision is %d", current)
		}
		out = t.Clone()
		out.Revision = v.index
		v.tokens[t.ID] = out
		return []api.Event{{Type: api.EventTokenUpdated, Key: t.ID, Token: out}}, nil
	})
	return out, err
}

func (c *fakeCluster) DeleteToken(_ context.Context, id string) (uint64, error) {
	err := c.change(func(v *fakeView) ([]api.Event, error) {
		if _, ok := v.tokens[id]; !ok {
			return nil, api.Errorf(api.CodeNotFound, "gone")
		}
		delete(v.tokens, id)
		return []api.Event{{Type: api.EventTokenDeleted, Key: id}}, nil
	})
	return c.View().Index(), err
}

// report is what a node's report does.
func (c *fakeCluster) report(ref api.Ref, o api.Observed) {
	_ = c.change(func(v *fakeView) ([]api.Event, error) {
		cur, ok := v.instances[ref]
		if !ok {
			return nil, nil
		}
		i := *cur
		o.Generation, o.Desired = i.Generation, i.Desired
		i.Observed = &o
		v.instances[ref] = &i
		return []api.Event{{Type: api.EventInstanceUpdated, Key: ref.String(), Instance: &i}}, nil
	})
}

// fakeRuntime starts what it is asked to at once. What it observes is in the cluster's
// state only, so that the waits under test have to watch that.
type fakeRuntime struct {
	cluster *fakeCluster
	mu      sync.Mutex
	fails   map[api.Ref]error         // of Wake and Restart
	hangs   map[api.Ref]bool          // never ready
	fresher map[api.Ref]*api.Observed // than the state
	away    func()                    // called instead of starting anything, when the node can't be reached
	calls   []string
}

func (r *fakeRuntime) Observed(ref api.Ref) (api.Observed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.fresher[ref]; o != nil {
		return *o, true
	}
	return api.Observed{}, false
}

func (r *fakeRuntime) Wake(ctx context.Context, ref api.Ref) error { return r.run(ctx, "wake", ref) }

func (r *fakeRuntime) Sleep(_ context.Context, ref api.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "sleep "+ref.String())
	return nil
}

func (r *fakeRuntime) Restart(ctx context.Context, ref api.Ref) error {
	return r.run(ctx, "restart", ref)
}

func (r *fakeRuntime) run(ctx context.Context, what string, ref api.Ref) error {
	r.mu.Lock()
	r.calls = append(r.calls, what+" "+ref.String())
	err, hangs := r.fails[ref], r.hangs[ref]
	r.mu.Unlock()
	switch {
	case r.away != nil:
		r.away()
		return api.Errorf(api.CodeUnavailable, "reach node")
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case err != nil:
		r.cluster.report(ref, api.Observed{State: api.StateFailed, Reason: err.Error()})
		return err
	default:
		r.cluster.report(ref, api.Observed{State: api.StateRunning, Healthy: true, PID: 42})
		return nil
	}
}

func (r *fakeRuntime) StorageUsage(_ context.Context, ref api.Ref) (api.Storage, error) {
	return api.Storage{Path: "/data/" + ref.Service + "/" + ref.ID, Used: 3 * api.MiB}, nil
}

// fakeLogs holds entries; what is sent to live is followed.
type fakeLogs struct {
	mu      sync.Mutex
	entries []api.LogEntry
	queries []api.LogQuery
	live    chan api.LogEntry
	err     error // ends a stream, after live is closed
}

func (l *fakeLogs) Query(_ context.Context, q api.LogQuery) ([]api.LogEntry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queries = append(l.queries, q)
	return slices.DeleteFunc(slices.Clone(l.entries), func(e api.LogEntry) bool {
		return q.Service != "" && e.Service != q.Service || q.Instance != "" && e.Instance != q.Instance
	}), nil
}

func (l *fakeLogs) Follow(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error] {
	l.mu.Lock()
	l.queries = append(l.queries, q)
	l.mu.Unlock()
	return func(yield func(api.LogEntry, error) bool) {
		for {
			select {
			case e, ok := <-l.live:
				if !ok {
					yield(api.LogEntry{}, l.err)
					return
				}
				if e.Seq > q.After && !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
