package main

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/tenement-fleet/tenement/api"
)

func (f *fakeServer) growRoutes() {
	backends := []api.Backend{
		{Service: "notes", Instance: "v1", Weight: number(90)}, {Service: "notes", Fleet: "web", Weight: number(10)}, {Service: "gone", Weight: number(5)},
	}
	f.routes = []*api.RouteStatus{
		{
			Route: api.Route{Name: "docs", Paths: []string{"/docs", "/help"}, Mode: api.RouteMaintenance, Message: "Back at 10.\x1b[0m", Source: api.SourceAPI, Revision: 9},
		}, {
			Route: api.Route{
				Name: "shop", Hosts: []string{"shop.example.com", "www.shop.example.com"}, Mode: api.RouteLive, Backends: backends, Source: api.SourceAPI, Revision: 8,
			},
			Effective: []api.BackendStatus{
				{Backend: backends[0], Share: 100},
				{Backend: backends[1], Reason: "it has no instance with a weight"},
				{Backend: backends[2], Reason: "unknown: there is no service gone"},
			},
		},
	}
}

func (f *fakeServer) routeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/routes", func(w http.ResponseWriter, _ *http.Request) { answer(w, append([]*api.RouteStatus{}, f.routes...)) })
	mux.HandleFunc("/api/routes/{name}", func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(f.routes, func(x *api.RouteStatus) bool { return x.Name == r.PathValue("name") })
		switch {
		case r.Method == http.MethodPut:
			var route api.Route
			_ = json.NewDecoder(r.Body).Decode(&route)
			route.SetDefaults()
			if errs, ok := route.Validate().(api.FieldErrors); ok { //nolint:errorlint // as it is returned
				refuse(w, &api.Error{Code: api.CodeInvalid, Message: errs.Error(), Fields: errs})
				return
			}
			status := &api.RouteStatus{Route: route}
			for _, b := range route.Backends {
				s := api.BackendStatus{Backend: b, Share: float64(b.EffectiveWeight())}
				if b.Service == "gone" {
					s.Share, s.Reason = 0, "unknown: there is no service gone"
				}
				status.Effective = append(status.Effective, s)
			}
			f.routes = append(slices.DeleteFunc(f.routes, func(x *api.RouteStatus) bool { return x.Name == route.Name }), status)
			answer(w, route)
		case i < 0:
			refuse(w, api.Errorf(api.CodeNotFound, "no route %q", r.PathValue("name")))
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, f.routes[i])
		}
	})
}
