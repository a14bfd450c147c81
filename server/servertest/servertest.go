// Package servertest runs whole nodes inside one test process. Everything about them is
// real, down to sockets, files and Raft, but for the programs, which package fake
// pretends: a machine with thousands of instances, on which any of them can be made to
// crash, to hang or to be slow.
package servertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/config"
)

// Config says what a node is to be like.
type Config struct {
	// TOML is its tenement.toml. A command must exist, but is never run: "true" will do.
	TOML string
	// Machine has the programs; one that answers every request is made if it is nil.
	Machine *fake.Machine
	// DataDir holds the state; a new one is made, and removed at the end, if it is empty.
	DataDir string
	Logger  *slog.Logger // discards when nil
	Now     func() time.Time
	// Name is the node's, and Join are members of the cluster that it is to join, whose
	// secret it gets; none: it founds one.
	Name string
	Join []*Node
}

// Node is a running node.
type Node struct {
	Machine *fake.Machine
	DataDir string
	// Client calls the API over the admin socket.
	Client *client.Client
	// HTTP sends every request, whatever its host, to the node's HTTP port.
	HTTP *http.Client
	// ID is the node's id, PeerAddr where its peer port is.
	ID, PeerAddr string

	t    testing.TB
	end  context.CancelCauseFunc
	done chan struct{}
}

// patience bounds every wait; only a test that hangs comes near it.
const patience = 2 * time.Minute

// Start runs a node until the test ends, and returns once it serves.
func Start(t testing.TB, cfg Config) *Node {
	t.Helper()
	n := &Node{Machine: cfg.Machine, DataDir: cfg.DataDir, t: t, done: make(chan struct{})}
	if n.Machine == nil {
		n.Machine = fake.NewMachine(nil)
		t.Cleanup(n.Machine.Close)
	}
	if n.DataDir == "" {
		n.DataDir = TempDir(t)
	}
	file := filepath.Join(n.DataDir, "tenement.toml") // its place is the programs' workdir, and stays
	if err := os.WriteFile(file, []byte(cfg.TOML), 0o600); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, n.end = context.WithCancelCause(context.Background())
	t.Cleanup(n.Stop)
	serving := make(chan net.Addr, 1)
	go func() {
		defer close(n.done)
		if err := server.Run(ctx, server.Options{
			Load: func() (*config.Config, error) { return load(file, n.DataDir, cfg) },
			Drivers: map[api.Isolation]driver.Driver{
				api.IsolationProcess:   n.Machine.Driver(api.IsolationProcess),
				api.IsolationNamespace: n.Machine.Driver(api.IsolationNamespace),
			},
			Version: "test", Logger: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), Now: cfg.Now,
			Serving: func(a net.Addr) { serving <- a },
			Fatal:   func(err error) { t.Errorf("fatal: %v", err) },
		}); err != nil {
			t.Errorf("run node: %v", err)
		}
	}()
	select {
	case addr := <-serving:
		n.connect(addr)
	case <-n.done:
		t.FailNow()
	case <-time.After(patience):
		t.Fatalf("the node does not serve after %s", patience)
	}
	return n
}

func load(file, dataDir string, cfg Config) (*config.Config, error) {
	anyPort := 0
	flags := config.Flags{
		DataDir: dataDir, Bind: "127.0.0.1", Port: &anyPort, PeerPort: &anyPort, GossipPort: &anyPort, NodeName: cfg.Name,
	}
	for _, member := range cfg.Join {
		flags.Join = append(flags.Join, member.PeerAddr)
		flags.SecretFile = filepath.Join(member.DataDir, ".ten", "secret")
	}
	return config.Load(config.Options{
		File: file, Env: []string{"PATH=" + os.Getenv("PATH")},
		Flags: flags,
	})
}

func (n *Node) connect(addr net.Addr) {
	c, err := client.New(client.Config{Endpoints: []string{"unix://" + filepath.Join(n.DataDir, "ten.sock")}, Timeout: patience})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	n.Client = c
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, addr.Network(), addr.String())
		},
		MaxIdleConnsPerHost: 64,
	}
	n.t.Cleanup(transport.CloseIdleConnections)
	n.HTTP = &http.Client{Transport: transport, Timeout: patience}
	self, err := c.Node(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	n.ID, n.PeerAddr = self.ID, self.PeerAddress
}

// Cluster starts nodes that are one cluster, named n1, n2 and so on. The first founds it.
func Cluster(t testing.TB, size int, cfg Config) []*Node {
	t.Helper()
	var nodes []*Node
	for i := range size {
		one := cfg
		one.Name = fmt.Sprint("n", i+1)
		one.Join = nodes
		nodes = append(nodes, Start(t, one))
	}
	return nodes
}

// Stop ends the node as SIGTERM does: the programs run on.
func (n *Node) Stop() { n.stop(context.Canceled) }

// Interrupt ends the node as Ctrl-C does: the programs end too.
func (n *Node) Interrupt() { n.stop(server.ErrInterrupted) }

func (n *Node) stop(cause error) {
	if n.HTTP != nil {
		n.HTTP.CloseIdleConnections()
	}
	n.end(cause)
	<-n.done
}

// Get requests path of host and returns the answer's status and body.
func (n *Node) Get(host, path string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := n.HTTP.Do(req)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), errors.Join(err, resp.Body.Close())
}

// Want requests path of host and fails the test unless the answer is 200 with want in it.
func (n *Node) Want(host, path, want string) {
	n.t.Helper()
	if status, body, err := n.Get(host, path); err != nil || status != http.StatusOK || !strings.Contains(body, want) {
		n.t.Fatalf("GET %s%s: %d %q %v; want 200 with %q", host, path, status, body, err, want)
	}
}

// Wait returns once the instance is in one of the states.
func (n *Node) Wait(ref api.Ref, states ...api.State) *api.Instance {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	in, err := n.Client.WaitInstance(ctx, ref, func(i *api.Instance) (bool, error) { return slices.Contains(states, i.State()), nil })
	if err != nil {
		n.t.Fatalf("wait for %s to be %v: %v", ref, states, err)
	}
	return in
}

// TempDir makes a directory with a name short enough for the sockets in it, and removes
// it when the test ends.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
