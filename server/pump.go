package server

import (
	"context"
	"sync"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/proxy/route"
)

// changes is the replicated state as the pump sees it.
type changes interface {
	View() *state.View
	Events(after uint64) (events []api.Event, changed <-chan struct{}, ok bool)
}

// pump carries changes of the replicated state to the routing table and the agent, in
// order.
type pump struct {
	node    changes
	router  *route.Router
	changed func(api.Ref) // the agent's level trigger

	// Every instance that the agent has heard of and that was not deleted for it since is
	// in view, or in an event of batch, which came after view.
	view  *state.View
	batch []api.Event

	mu      sync.Mutex
	index   uint64
	advance chan struct{} // closed when index grows
}

func newPump(node changes, router *route.Router, changed func(api.Ref)) *pump {
	return &pump{node: node, router: router, changed: changed, advance: make(chan struct{})}
}

// reset loads the whole state into the routing table.
func (p *pump) reset() {
	p.view, p.batch = p.node.View(), nil
	for n := range p.view.Nodes() {
		p.router.PutNode(n)
	}
	p.router.Reset(p.view.Services(), p.view.Instances(""))
	p.router.ResetRoutes(p.view.Routes())
	p.reached(p.view.Index())
}

// run pumps until ctx ends. reset must have been called.
func (p *pump) run(ctx context.Context) {
	for {
		seen := p.node.View()
		events, more, ok := p.node.Events(p.at())
		if !ok {
			p.resync()
			continue
		}
		p.view, p.batch = seen, events
		for _, e := range events {
			p.apply(e)
		}
		if n := len(events); n > 0 {
			p.reached(events[n-1].Index)
			continue
		}
		p.reached(seen.Index()) // commands that changed nothing made no event
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// resync starts over from the present state, after the pump fell too far behind.
func (p *pump) resync() {
	view, batch := p.view, p.batch
	p.reset()
	for in := range view.Instances("") { // deleted ones, of which no event tells any more
		p.changed(in.Ref())
	}
	for _, e := range batch {
		if e.Type == api.EventInstanceUpdated {
			p.changed(e.Instance.Ref())
		}
	}
	for in := range p.view.Instances("") {
		p.changed(in.Ref())
	}
}

func (p *pump) apply(e api.Event) {
	switch e.Type {
	case api.EventServiceUpdated:
		p.router.PutService(e.Service)
		for in := range p.node.View().Instances(e.Key) {
			p.changed(in.Ref())
		}
	case api.EventServiceDeleted:
		p.router.DeleteService(e.Key)
	case api.EventInstanceUpdated:
		p.router.PutInstance(e.Instance)
		p.changed(e.Instance.Ref())
	case api.EventInstanceDeleted:
		ref, err := api.ParseRef(e.Key)
		if err != nil {
			return // the state holds valid names only
		}
		p.router.DeleteInstance(ref)
		p.changed(ref)
	case api.EventRouteUpdated:
		p.router.PutRoute(e.Route)
	case api.EventRouteDeleted:
		p.router.DeleteRoute(e.Key)
	case api.EventNodeUpdated:
		p.router.PutNode(e.Node)
	case api.EventNodeDeleted:
		p.router.DeleteNode(e.Key)
	}
}

func (p *pump) at() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

func (p *pump) reached(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index > p.index {
		p.index = index
		close(p.advance)
		p.advance = make(chan struct{})
	}
}

// waitFor returns once everything up to index has been passed on, or with ctx's cause.
func (p *pump) waitFor(ctx context.Context, index uint64) error {
	for {
		p.mu.Lock()
		at, advance := p.index, p.advance
		p.mu.Unlock()
		if at >= index {
			return nil
		}
		select {
		case <-advance:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
