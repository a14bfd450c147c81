package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// grow makes the server one of a cluster of three, in the given condition.
func (f *fakeServer) grow(condition string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	member := func(id string, role api.MemberRole, zone string, instances int) api.Member {
		return api.Member{
			Node: api.Node{
				ID: id, Name: id, Zone: zone, Version: "v9.9.9", Eligibility: api.EligibilityEligible,
				PeerAddress: "10.0.0." + id[1:] + ":7947", SecretIDs: []string{"0123456789abcdef"},
			},
			Role: role, Index: 20, Gossip: "alive", Instances: instances,
		}
	}
	f.members = []api.Member{
		member("n1", api.MemberLeader, "eu-1", 2), member("n2", api.MemberVoter, "eu-2", 1), member("n3", api.MemberVoter, "eu-2", 0),
	}
	for i, id := range []string{"n1", "n2", "n1", "n1"} {
		f.instances[i].Node = id
	}
	f.stale = false
	two := &f.members[1]
	switch condition {
	case "suspected":
		two.Gossip, two.GossipReason, two.Lag = "suspect", "no answer for 3s, on UDP nor TCP\x1b[0m", 7
	case "down":
		two.Status, two.StatusReason, two.Deadline = api.NodeDown, "connection refused for 2s", noon.Add(1500*time.Millisecond)
		two.Index = 0
		f.members[2].Eligibility = api.EligibilityDraining
	case "lost":
		f.stale = true
		f.members[1].Status, f.members[2].Status = api.NodeDown, api.NodeLeft
		f.members[0].Role = api.MemberVoter
	}
	f.fleets = []*api.Fleet{{Service: "notes", Name: "web", Replicas: 3, Revision: 5, Placement: &api.PlacementRules{
		SpreadBy: api.SpreadByZone, Constraints: []api.Constraint{"zone = eu-1|eu-2", "label.ssd"}, AntiAffinity: []string{"db"},
	}}, {Service: "web", Name: "all", Replicas: 1, Weight: number(40), Revision: 6}}
	f.growRoutes()
	f.joins = []*api.JoinToken{
		{ID: "0123456789ab", ExpiresAt: noon.Add(time.Hour), MaxUses: 3, Uses: 1, Description: "rack 2"},
		{ID: "ba9876543210", ExpiresAt: noon.Add(-time.Hour)},
		{ID: "ffffffffffff"},
	}
	f.plan = []api.Decision{
		{Ref: api.Ref{Service: "notes", ID: "alice"}, From: "n1", Node: "n2", Reason: "n1 is draining: it has the most room left"},
		{Ref: api.Ref{Service: "notes", ID: "bob"}, From: "n2", Reason: "n2 is draining: no node can take it", Excluded: []api.Exclusion{
			{Reason: "zone = eu-1", Nodes: 2}, {Reason: "memory", Nodes: 1},
		}},
		{Ref: api.Ref{Service: "notes", ID: "web-0"}, Node: "n3", Reason: "new: it has the most room left"},
		{Ref: api.Ref{Service: "web", ID: "x"}, From: "n2", Node: "n2", Reason: "is where its data is"},
	}
	f.secret = api.SecretStatus{Phase: api.SecretUse, Secrets: []string{"s2", "s1"}, Nodes: []api.SecretNode{
		{ID: "n1", Name: "n1", Secrets: []string{"s2", "s1"}, Confirmed: true}, {ID: "n2", Name: "n2", Secrets: []string{"s1", "s2"}},
	}}
}

func (f *fakeServer) isOn(in *api.Instance, node string) bool {
	return node == "" || in.Node == node || in.Previous != nil && in.Previous.Node == node
}

func (f *fakeServer) member(w http.ResponseWriter, r *http.Request) *api.Member {
	for i := range f.members {
		if f.members[i].Name == r.PathValue("node") {
			return &f.members[i]
		}
	}
	refuse(w, api.Errorf(api.CodeNotFound, "no node %q", r.PathValue("node")))
	return nil
}

func (f *fakeServer) routeCluster(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/cluster", func(w http.ResponseWriter, _ *http.Request) {
		s := api.ClusterStatus{ID: "5f0c", Node: "n1", Leader: "n1", Index: f.index, Members: f.members}
		if f.stale {
			s.Leader, s.Stale = "", true
		}
		answer(w, s)
	})
	mux.HandleFunc("GET /api/nodes", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.members) })
	mux.HandleFunc("GET /api/nodes/{node}", func(w http.ResponseWriter, r *http.Request) {
		if m := f.member(w, r); m != nil {
			answer(w, m)
		}
	})
	mux.HandleFunc("PUT /api/nodes/{node}", func(w http.ResponseWriter, r *http.Request) {
		if m := f.member(w, r); m != nil {
			var req api.NodeRequest
			_ = json.NewDecoder(r.Body).Decode(&req)
			m.Eligibility = req.Eligibility
			answer(w, m.Node)
		}
	})
	mux.HandleFunc("DELETE /api/nodes/{node}", func(w http.ResponseWriter, r *http.Request) {
		m := f.member(w, r)
		switch {
		case m == nil:
		case m.Instances > 0 && r.URL.Query().Get("force") != "true":
			refuse(w, api.Errorf(api.CodeConflict, "remove node %s: it is up and has %d instances: drain it first", m.Name, m.Instances))
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("POST /api/nodes/{node}/promote", func(w http.ResponseWriter, r *http.Request) {
		if m := f.member(w, r); m != nil {
			answer(w, m)
		}
	})
	mux.HandleFunc("GET /api/instances/{ref}", func(w http.ResponseWriter, r *http.Request) {
		if in := f.find(w, r); in != nil {
			answer(w, in)
		}
	})
	mux.HandleFunc("POST /api/plan", func(w http.ResponseWriter, r *http.Request) {
		var req api.PlanRequest
		_ = json.NewDecoder(r.Body).Decode(&req) // an empty one is fine
		for _, node := range req.Drain {
			if !slices.ContainsFunc(f.members, func(m api.Member) bool { return m.Name == node || m.ID == node }) {
				refuse(w, api.Errorf(api.CodeNotFound, "no node %q", node))
				return
			}
		}
		answer(w, api.PlanResult{Index: f.index, Changes: append([]api.Decision{}, f.plan...)})
	})
	f.routeFleets(mux)
	f.routeRoutes(mux)
	f.routeSecrets(mux)
}

func (f *fakeServer) routeFleets(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/fleets", func(w http.ResponseWriter, r *http.Request) {
		out := []*api.Fleet{}
		for _, fleet := range f.fleets {
			if s := r.URL.Query().Get("service"); s == "" || s == fleet.Service {
				out = append(out, fleet)
			}
		}
		answer(w, out)
	})
	mux.HandleFunc("/api/fleets/{ref}", func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(f.fleets, func(x *api.Fleet) bool { return x.Ref().String() == r.PathValue("ref") })
		switch {
		case r.Method == http.MethodPut:
			var fleet api.Fleet
			_ = json.NewDecoder(r.Body).Decode(&fleet)
			if err := fleet.Validate(); err != nil {
				fleet.SetDefaults()
			}
			if errs, ok := fleet.Validate().(api.FieldErrors); ok { //nolint:errorlint // as it is returned
				refuse(w, &api.Error{Code: api.CodeInvalid, Message: errs.Error(), Fields: errs})
				return
			}
			answer(w, fleet)
		case i < 0:
			refuse(w, api.Errorf(api.CodeNotFound, "no fleet %q", r.PathValue("ref")))
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, f.fleets[i])
		}
	})
}

func (f *fakeServer) routeSecrets(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/join-tokens", func(w http.ResponseWriter, _ *http.Request) { answer(w, append([]*api.JoinToken{}, f.joins...)) })
	mux.HandleFunc("POST /api/join-tokens", func(w http.ResponseWriter, r *http.Request) {
		var req api.JoinTokenRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		t := api.CreatedJoinToken{JoinToken: api.JoinToken{ID: "0123456789ab", Description: req.Description, MaxUses: req.MaxUses}, Text: "tenj_TEXT"}
		if req.ExpiresIn > 0 {
			t.ExpiresAt = noon.Add(req.ExpiresIn.Std())
		}
		answer(w, t)
	})
	mux.HandleFunc("DELETE /api/join-tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != f.joins[0].ID {
			refuse(w, api.Errorf(api.CodeNotFound, "no join token %q", r.PathValue("id")))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /api/secret", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.secret) })
	mux.HandleFunc("POST /api/secret/rotate", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.secret) })
	mux.HandleFunc("GET /api/cluster/snapshot", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the state") })
	mux.HandleFunc("POST /api/cluster/snapshot", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if f.restored = string(b); r.URL.Query().Get("force") != "true" && strings.Contains(f.restored, "other") {
			refuse(w, api.Errorf(api.CodeConflict, "restore snapshot: it is of cluster 77aa, not 5f0c"))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// offline sets the hooks of what works without a server. In any directory but dir there
// is nothing, and what is in "locked" is somebody else's.
func (h *hooks) offline(dir string) {
	h.Secret = func(at string) (string, error) {
		switch {
		case filepath.Base(at) == "locked":
			return "", fmt.Errorf("read secret: %w", &fs.PathError{Op: "open", Path: at, Err: fs.ErrPermission})
		case at != dir:
			return "", fmt.Errorf("read secret: %w", &fs.PathError{Op: "open", Path: at, Err: fs.ErrNotExist})
		}
		return "tens_SECRET", nil
	}
	h.NewSecret = func() (string, error) { return "tens_NEW", nil }
	h.LongToken = func(_ string, addresses []string) (string, error) {
		return "tenj_LONG_" + strings.Join(addresses, "_"), nil
	}
	h.Recover = func(at string, preview bool) (*recovery, error) {
		if at != dir {
			return nil, api.Errorf(api.CodeConflict, "recover: a server is running on %s", at)
		}
		r := &recovery{Node: "n1", ClusterID: "5f0c", Index: 20, Members: []recoveryMember{
			{ID: "n1", Address: "10.0.0.1:7947", Voter: true, After: "votes"}, {ID: "n2", Address: "10.0.0.2:7947", Voter: true, After: "gone"},
		}}
		if !preview {
			r.Backup = filepath.Join(dir, "backup")
		}
		return r, nil
	}
	h.InspectSnapshot = func(r io.Reader) (*snapshotInfo, error) {
		if b, _ := io.ReadAll(r); string(b) != "the state" {
			return nil, api.Errorf(api.CodeInvalid, "it is no snapshot")
		}
		return &snapshotInfo{Version: 1, ClusterID: "5f0c", Index: 20, Node: "n1", CreatedAt: noon, Services: 2, Instances: 5, Fleets: 2, Nodes: 3, Tokens: 2}, nil
	}
}
