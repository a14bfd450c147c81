package main

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

// fleetSize is how many servers a fleet under measurement has.
const fleetSize = 3

// fleet is several servers of one cluster.
type fleet struct{ nodes []*node }

// newFleet makes the servers and starts none. The first has the configuration, the others
// join it.
func (b *bench) newFleet(toml string) (*fleet, error) {
	port, err := fleetPorts()
	if err != nil {
		return nil, err
	}
	shared, err := secret.New(cryptorand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make secret: %w", err)
	}
	f := &fleet{}
	for i := range fleetSize {
		n, err := b.newNode("127.0.0."+strconv.Itoa(i+1), port, toml)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.nodes, toml = append(f.nodes, n), ""
		n.name = "n" + strconv.Itoa(i+1)
		file := filepath.Join(n.dir, "secret") // one each: its path tells whose a process is
		if err := os.WriteFile(file, []byte(shared.Reveal()+"\n"), 0o600); err != nil {
			f.stop()
			return nil, fmt.Errorf("write secret: %w", err)
		}
		n.flags = []string{
			"--bind", n.host, "--node-name", n.name, "--secret-file", file,
			"--gossip-port", strconv.Itoa(port + 1), "--peer-port", strconv.Itoa(port + 2),
		}
		if i > 0 {
			n.flags = append(n.flags, "--join", net.JoinHostPort(f.nodes[0].host, strconv.Itoa(port+2)))
		}
	}
	return f, nil
}

// startFleet returns once all servers vote.
func (b *bench) startFleet(ctx context.Context, toml string) (*fleet, error) {
	f, err := b.newFleet(toml)
	if err != nil {
		return nil, err
	}
	if err := f.start(ctx); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *fleet) start(ctx context.Context) error {
	if err := f.nodes[0].start(ctx); err != nil {
		return err
	}
	if err := f.each(f.nodes[1:], func(n *node) error { return n.start(ctx) }); err != nil {
		return err
	}
	return f.settle(ctx)
}

// stop ends the servers and all that they run, as abruptly as it can.
func (f *fleet) stop() {
	for _, n := range f.nodes {
		n.die()
		n.admin.CloseIdleConnections()
		_ = os.RemoveAll(n.dir)
	}
}

func (f *fleet) each(nodes []*node, do func(*node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fleetPorts returns the first of three neighbouring ports that are free on every address
// of a fleet. They are below those that the kernel gives to outgoing connections: a server
// that is killed finds them free when it comes back.
func fleetPorts() (int, error) {
	for range 100 {
		port := 10_000 + rand.IntN(20_000) //nolint:gosec // no secret
		free := true
		for i := range fleetSize * 3 {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0."+strconv.Itoa(1+i/3), strconv.Itoa(port+i%3)))
			if err != nil {
				free = false
				break
			}
			_ = ln.Close()
		}
		if free {
			return port, nil
		}
	}
	return 0, errors.New("find free ports on 127.0.0.1 to .3: there are none")
}

// processes returns what serves from the node's directory, or runs in it: ten, the keepers
// of its programs' pipes, and the programs.
func (n *node) processes() (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		args, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(proc, "environ"))
		out, _ := os.Readlink(filepath.Join(proc, "fd", "1"))
		if strings.Contains(string(args)+"\x00"+string(env)+"\x00"+out, n.dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			pids = append(pids, pid)
		}
	}
	return pids
}

// die ends what would end with the machine, at once.
func (n *node) die() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill() // first: it must not see its programs die
	}
	for pids := n.processes(); len(pids) > 0; pids = n.processes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		n.halt(syscall.SIGKILL)
	}
}

// poll repeats do until it says that all is well.
func poll(ctx context.Context, limit time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait: after %s: %w", limit, err)
		}
	}
}

// patience bounds every wait for something that should come in seconds.
const patience = 2 * time.Minute

func (n *node) cluster(ctx context.Context) (c api.ClusterStatus, err error) {
	_, err = n.call(ctx, "GET", "/api/cluster", nil, &c)
	return c, err
}

// leader returns the server that leads and the others.
func (f *fleet) leader(ctx context.Context) (leader *node, rest []*node, err error) {
	err = poll(ctx, patience, func() error {
		leader, rest = nil, nil
		for _, n := range f.nodes {
			c, err := n.cluster(ctx)
			if err != nil {
				return err
			}
			if c.Leader == c.Node {
				leader = n
			} else {
				rest = append(rest, n)
			}
		}
		if leader == nil || len(rest) != len(f.nodes)-1 {
			return errors.New("there is no one leader")
		}
		return nil
	})
	return leader, rest, err
}

// settle waits until all servers vote, are up and have all that was written.
func (f *fleet) settle(ctx context.Context) error {
	return poll(ctx, patience, func() error {
		leader, _, err := f.leader(ctx)
		if err != nil {
			return err
		}
		return leader.sees(ctx, len(f.nodes), func(m api.Member) bool { return votes(m) && m.Reachable() && m.Lag < 16 })
	})
}

func votes(m api.Member) bool { return m.Role == api.MemberVoter || m.Role == api.MemberLeader }

// sees returns nil if so many members of the cluster are, to the server, as they should be.
func (n *node) sees(ctx context.Context, want int, good func(api.Member) bool) error {
	c, err := n.cluster(ctx)
	if err != nil {
		return err
	}
	got := 0
	for _, m := range c.Members {
		if good(m) {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("%d members of %d are as they should be: %+v", got, want, c.Members)
	}
	return nil
}

// put declares an object through the server. Like every client it tries again when a leader
// is lost on the way.
func (n *node) put(ctx context.Context, path string, object any) error {
	return poll(ctx, patience, func() error {
		_, err := n.call(ctx, "PUT", path, object, nil)
		return err
	})
}

// remove is put for what is to be gone.
func (n *node) remove(ctx context.Context, path string) error {
	return poll(ctx, patience, func() error {
		_, err := n.call(ctx, "DELETE", path, nil, nil)
		if err != nil && strings.Contains(err.Error(), strconv.Itoa(http.StatusNotFound)) {
			return nil // an attempt that seemed to fail had succeeded
		}
		return err
	})
}

// replicas declares a fleet of service app, and returns its members.
func (n *node) replicas(ctx context.Context, name string, count int) ([]api.Ref, error) {
	spec := api.Fleet{Service: "app", Name: name, Replicas: count}
	if err := n.put(ctx, "/api/fleets/"+spec.Ref().String(), &spec); err != nil {
		return nil, err
	}
	refs := make([]api.Ref, count)
	for i := range refs {
		refs[i] = spec.Member(i)
	}
	return refs, nil
}

// drop removes a fleet and waits until none of its programs is left.
func (f *fleet) drop(ctx context.Context, by *node, name string) error {
	if err := by.remove(ctx, "/api/fleets/app:"+name); err != nil {
		return err
	}
	return poll(ctx, patience, func() error {
		for _, n := range f.nodes {
			for _, pid := range n.processes() {
				env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				if strings.Contains(string(env), "TENEMENT_INSTANCE="+name+"-") {
					return fmt.Errorf("process %d of fleet %s still runs", pid, name)
				}
			}
		}
		return nil
	})
}

func hostOf(ref api.Ref) string { return ref.ID + "." + ref.Service + ".localhost" }

// serves waits until an instance answers through the server. An attempt that hangs is
// given up soon, as one that was sent to a dead node would.
func (n *node) serves(ctx context.Context, ref api.Ref) error {
	return poll(ctx, patience, func() error {
		_, err := firstByteWithin(500*time.Millisecond, n.addr(), hostOf(ref), "/")
		return err
	})
}

// helloTable declares examples/hello as service app; its instances never sleep by themselves.
func (b *bench) helloTable() string {
	return service("app", []string{b.hello}, "process") + "idle_timeout = 0\n"
}
