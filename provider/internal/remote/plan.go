package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// dryRunTimeout bounds one dry run: a plan is possible without.
const dryRunTimeout = 30 * time.Second

// planned is what is known of the plan under way.
type planned struct {
	mu       sync.Mutex
	services map[string]*api.Service // what it puts; nil while that is not known as a whole
	queues   map[string]*queue       // by service
	gone     bool                    // no server answered: don't ask again
}

// queue holds the instances that wait for the dry run of their service that is under way:
// all of them are the next one.
type queue struct {
	busy    bool
	waiting []*ask
}

type ask struct {
	instance *api.Instance
	done     chan struct{}
	decision *api.Decision
	err      error
}

// WillPut remembers a service for the dry runs of the same plan; with a nil service it
// will be there, but what it says is not known yet.
func (r *Remote) WillPut(name string, s *api.Service) {
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	if r.plans.services == nil {
		r.plans.services = map[string]*api.Service{}
	}
	r.plans.services[name] = s
}

// supposed returns the service that the plan puts, if any, and whether there is a dry run
// to be made at all.
func (r *Remote) supposed(service string) (*api.Service, bool) {
	if !r.Known() {
		return nil, false
	}
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	s, planned := r.plans.services[service]
	return s, !r.plans.gone && (s != nil || !planned)
}

// PlanInstance asks the server where an instance would go; nil if that can't be said yet.
// Dry runs for instances of one service are made together.
func (r *Remote) PlanInstance(ctx context.Context, i *api.Instance) (*api.Decision, error) {
	if _, ok := r.supposed(i.Service); !ok {
		return nil, nil
	}
	a := &ask{instance: i, done: make(chan struct{})}
	r.plans.mu.Lock()
	if r.plans.queues == nil {
		r.plans.queues = map[string]*queue{}
	}
	q := r.plans.queues[i.Service]
	if q == nil {
		q = &queue{}
		r.plans.queues[i.Service] = q
	}
	q.waiting = append(q.waiting, a)
	if q.busy {
		r.plans.mu.Unlock()
		select {
		case <-a.done:
			return a.decision, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	q.busy = true
	for len(q.waiting) > 0 { // ours, and what has come meanwhile
		batch := q.waiting
		q.waiting = nil
		r.plans.mu.Unlock()
		r.planBatch(ctx, i.Service, batch)
		r.plans.mu.Lock()
	}
	q.busy = false
	r.plans.mu.Unlock()
	return a.decision, a.err
}

// planBatch answers the asks. What is wrong with one must not be told of the others.
func (r *Remote) planBatch(ctx context.Context, service string, batch []*ask) {
	req := api.PlanRequest{}
	for _, a := range batch {
		req.Instances = append(req.Instances, a.instance)
	}
	res, err := r.DryRun(context.WithoutCancel(ctx), service, req)
	if err != nil && len(batch) > 1 && api.CodeOf(err) == api.CodeInvalid {
		for _, a := range batch {
			r.planBatch(ctx, service, []*ask{a})
		}
		return
	}
	for _, a := range batch {
		a.err = err
		if res != nil {
			a.decision = decisionOn(res, a.instance.Ref())
		}
		close(a.done)
	}
}

func decisionOn(res *api.PlanResult, ref api.Ref) *api.Decision {
	for n := range res.Changes {
		if res.Changes[n].Ref == ref {
			return &res.Changes[n]
		}
	}
	return nil
}

// DryRun asks the server where the objects of a request would go, with the service as the
// plan under way puts it. The result is nil if that can't be said yet.
func (r *Remote) DryRun(ctx context.Context, service string, req api.PlanRequest) (*api.PlanResult, error) {
	s, ok := r.supposed(service)
	if !ok {
		return nil, nil
	}
	if req.Service == nil {
		req.Service = s
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunTimeout)
	defer cancel()
	return r.client.Plan(ctx, req)
}

// Subject is the object that a dry run was made for, in messages and in the schema.
type Subject struct {
	Name    string // "instance web:blue"
	Service string
	In      Schema
	// Blame tells which attribute has to do with a reason for which a node can't take it.
	Blame func(reason string) path.Path
	// Firm makes what would not work an error; otherwise it is a warning.
	Firm bool
}

// Judge tells what a dry run has found out.
func (r *Remote) Judge(ctx context.Context, diags *diag.Diagnostics, s Subject, decisions []api.Decision, err error) {
	if err != nil {
		r.judgeError(ctx, diags, s, err)
		return
	}
	nowhere := 0
	var first *api.Decision
	for n := range decisions {
		if decisions[n].Node == "" {
			if nowhere++; first == nil {
				first = &decisions[n]
			}
		}
	}
	if first == nil {
		return
	}
	detail := Nowhere(first)
	if len(decisions) > 1 {
		detail = fmt.Sprintf("%d of its %d instances would be on no node. %s", nowhere, len(decisions), detail)
	}
	at := path.Root("service")
	for _, e := range first.Excluded {
		at = s.Blame(e.Reason)
	}
	summary := "No node can take " + s.Name
	if s.Firm {
		diags.AddAttributeError(at, summary, detail+"\n\nThat is how the cluster is now. With wait_for = \"none\" it is created anyway, and waits for a node.")
	} else {
		diags.AddAttributeWarning(at, summary, detail)
	}
}

// Nowhere says why no node takes an instance.
func Nowhere(d *api.Decision) string {
	parts := make([]string, 0, len(d.Excluded))
	for _, e := range d.Excluded {
		unit := "nodes"
		if e.Nodes == 1 {
			unit = "node"
		}
		parts = append(parts, fmt.Sprintf("%d %s by %s", e.Nodes, unit, e.Reason))
	}
	if len(parts) == 0 {
		return Sentence(fmt.Sprintf("%s: %s", d.Ref, d.Reason))
	}
	return fmt.Sprintf("%s: %s. Ruled out are %s.", d.Ref, d.Reason, strings.Join(parts, ", "))
}

func (r *Remote) judgeError(ctx context.Context, diags *diag.Diagnostics, s Subject, err error) {
	var un *client.UnreachableError
	switch code := api.CodeOf(err); {
	case errors.As(err, &un) || errors.Is(err, context.DeadlineExceeded) || code == api.CodeUnavailable:
		r.plans.mu.Lock()
		told := r.plans.gone
		r.plans.gone = true
		r.plans.mu.Unlock()
		if !told {
			diags.AddWarning("The plan is not checked against the cluster", Sentence(err.Error())+
				" That is fine if the servers are started by the same apply.")
		}
	case code == api.CodeNotFound:
		diags.AddAttributeWarning(path.Root("service"), fmt.Sprintf("There is no service %s yet", s.Service),
			"It has to be there when "+s.Name+" is created. If this configuration has it, refer to it, as in service = ten_service.NAME.name, so that it comes first.")
	default:
		Report(ctx, diags, s.In, "The cluster would not take "+s.Name, err)
	}
}
