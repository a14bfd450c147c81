package remote

import (
	"context"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// planned is what the plan under way will put, as far as it has come: a service that is
// created with its instances is known before they are tried.
type planned struct {
	mu       sync.Mutex
	services map[string]*api.Service
}

// WillPut remembers a service for the dry runs that follow.
func (r *Remote) WillPut(s *api.Service) {
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	if r.plans.services == nil {
		r.plans.services = map[string]*api.Service{}
	}
	r.plans.services[s.Name] = s
}

// DryRun asks the server where the objects of a request would go, with the service that
// the plan puts.
func (r *Remote) DryRun(ctx context.Context, service string, req api.PlanRequest) (*api.PlanResult, error) {
	if req.Service == nil {
		r.plans.mu.Lock()
		req.Service = r.plans.services[service]
		r.plans.mu.Unlock()
	}
	return r.client.Plan(ctx, req)
}
