package servertest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/peering"
	"github.com/tenement-fleet/tenement/server/servertest"
)

// pretend opens a peer port under a node id, with the cluster's secret.
func pretend(t *testing.T, id string, cluster []*servertest.Node) *peering.Client {
	t.Helper()
	k, err := secret.Load(server.SecretPath(cluster[0].DataDir))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := transport.New(transport.Config{
		Listener: ln, NodeID: id, Keyring: k, Handler: http.NotFoundHandler(),
		AddressOf: func(id string) (string, bool) {
			for _, n := range cluster {
				if n.ID == id {
					return n.PeerAddr, true
				}
			}
			return "", false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return &peering.Client{To: tr.Client, Probe: tr.Prober}
}

// TestRemovedNodeIsRefused: the secret alone, which a removed node still has, opens nothing.
func TestRemovedNodeIsRefused(t *testing.T) {
	nodes := servertest.Cluster(t, 3, servertest.Config{})
	checkActors(t, nodes)
	gone := nodes[2]
	gone.Interrupt()
	// Through a node that does not lead, on behalf of who sits at its local socket.
	if err := nodes[1].Client.RemoveNode(t.Context(), gone.ID, true); err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	ref := api.Ref{Service: "app", ID: "one"}
	for name, id := range map[string]string{"removed": gone.ID, "stranger": "00000000-0000-4000-8000-000000000003"} {
		c := pretend(t, id, nodes)
		for _, n := range nodes[:2] {
			if pong, err := c.Ping(t.Context(), n.ID); err != nil || pong.NodeID != n.ID {
				t.Errorf("%s: ping: %+v, %v", name, pong, err)
			}
		}
		for what, f := range map[string]func(context.Context, string) error{
			"removed": func(ctx context.Context, to string) error { return c.Removed(ctx, to) },
			"leave":   func(ctx context.Context, to string) error { return c.Leave(ctx, to) },
			"wake":    func(ctx context.Context, to string) error { return c.Wake(ctx, to, ref) },
			"commands": func(ctx context.Context, to string) error {
				_, err := c.Forward(ctx, to, []consensus.Forwarded{{Command: []byte(`{}`)}})
				return err
			},
			"remove": func(ctx context.Context, to string) error { return c.RemoveMember(ctx, to, nodes[0].ID, true) },
		} {
			asking.Go(func() {
				if err := f(t.Context(), nodes[0].ID); api.CodeOf(err) != api.CodeForbidden || !errors.Is(err, consensus.ErrNotSent) {
					t.Errorf("%s: %s: %v", name, what, err)
				}
			})
		}
	}
	asking.Wait()
	status, err := nodes[0].Client.Cluster(t.Context())
	if err != nil || len(status.Members) != 2 {
		t.Errorf("the cluster: %+v, %v", status, err)
	}
}

// checkActors: the leader authorises again what a node of the cluster says that somebody
// wants, who may have lost the right to it.
func checkActors(t *testing.T, nodes []*servertest.Node) {
	c := pretend(t, nodes[1].ID, nodes)
	for _, tt := range []struct {
		actor consensus.Actor
		want  api.Code
	}{
		{consensus.Actor{}, api.CodeUnauthenticated},
		{consensus.Actor{Role: api.RoleAdmin}, api.CodeUnauthenticated},
		{consensus.Actor{TokenID: "0123456789ab", Role: api.RoleAdmin}, api.CodeUnauthenticated},
		{consensus.Actor{Node: nodes[0].ID}, api.CodeForbidden},
	} {
		ctx := consensus.WithActor(t.Context(), tt.actor)
		for what, err := range map[string]error{
			"remove":  c.RemoveMember(ctx, nodes[0].ID, nodes[2].ID, true),
			"promote": c.Promote(ctx, nodes[0].ID, nodes[2].ID),
			"restore": c.RestoreSnapshot(ctx, nodes[0].ID, strings.NewReader("x"), true),
		} {
			if api.CodeOf(err) != tt.want {
				t.Errorf("%s for %+v: %v, want %s", what, tt.actor, err, tt.want)
			}
		}
	}
}
