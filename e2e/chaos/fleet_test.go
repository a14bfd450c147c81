package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fleet is three machines on one bridge.
type fleet struct {
	t     *testing.T
	rand  *rand.Rand
	dir   string
	net   string // the first three bytes of their addresses
	nodes []*machine
	token string
}

var fleets atomic.Int32 // so far

// newFleet makes machines on which nothing runs yet.
func newFleet(t *testing.T, service api.Service) *fleet {
	t.Helper()
	if missing != "" {
		t.Skip("skipped: " + missing)
	}
	if *short {
		t.Parallel() // most of the time goes by until all have a vote
	}
	with := *seed
	if with == 0 {
		with = uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	}
	t.Logf("-chaos.seed=%d", with)
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	number := fleets.Add(1)
	f := &fleet{t: t, dir: dir, net: fmt.Sprintf("10.99.%d.", number), rand: rand.New(rand.NewPCG(with, 0))} //nolint:gosec // no secret
	bridge := fmt.Sprintf("br%d", number)
	f.sh("ip link add " + bridge + " type bridge")
	f.sh("ip addr add " + f.net + "254/24 dev " + bridge)
	f.sh("ip link set " + bridge + " up")
	for i := range 3 {
		name := fmt.Sprintf("n%d-%d", i+1, number)
		m := newMachine(t, name, fmt.Sprintf("%s%d", f.net, i+1), filepath.Join(dir, name), &f.token)
		f.sh("ip netns add " + name)
		f.sh("ip link add v" + name + " type veth peer name eth0 netns " + name)
		f.sh("ip link set v" + name + " master " + bridge + " up")
		f.sh("ip -n " + name + " link set lo up")
		f.sh("ip -n " + name + " addr add " + m.ip + "/24 dev eth0")
		f.sh("ip -n " + name + " link set eth0 up")
		if err := os.WriteFile(m.config(), []byte(toml(service, i == 0)), 0o600); err != nil {
			t.Fatal(err)
		}
		f.nodes = append(f.nodes, m)
	}
	t.Cleanup(func() { f.close(bridge) })
	return f
}

// toml is a configuration with the service, in the first machine's.
func toml(s api.Service, first bool) string {
	if !first {
		return ""
	}
	// Programs that the faults end would be given up soon.
	out := fmt.Sprintf("[service.app]\ncommand = %q\nisolation = \"process\"\nmax_restarts = 1000\nidle_timeout = %d\n", appBinary, int(s.IdleTimeout.Std().Seconds()))
	if s.OnDisconnect != "" {
		out += fmt.Sprintf("on_disconnect = %q\n", s.OnDisconnect)
	}
	if !s.Persist() {
		out += "storage_persist = false\n"
	}
	out += "[service.app.env]\n"
	for k, v := range s.Env {
		out += fmt.Sprintf("%s = %q\n", k, v)
	}
	return out
}

func (f *fleet) close(bridge string) {
	for _, m := range f.nodes {
		m.signalAll()
		m.die()
		_ = sh("ip netns del " + m.name)
	}
	_ = sh("ip link del " + bridge)
	if f.t.Failed() {
		for _, m := range f.nodes {
			f.t.Logf("%s printed last:\n%s", m.name, m.tail(4000))
		}
		f.t.Logf("kept: %s", f.dir)
		return
	}
	_ = os.RemoveAll(f.dir) // of this test alone
}

func (f *fleet) sh(line string) {
	f.t.Helper()
	if err := sh(line); err != nil {
		f.t.Fatal(err)
	}
}

// startFleet returns three servers that all have a vote, with instances i0, i1 …
func startFleet(t *testing.T, service api.Service, instances int) *fleet {
	t.Helper()
	f := newFleet(t, service)
	f.bring(instances)
	return f
}

// bring starts all machines as one cluster.
func (f *fleet) bring(instances int) {
	f.t.Helper()
	one := f.nodes[0]
	one.start()
	f.makeToken()
	var wg sync.WaitGroup
	for _, m := range f.nodes[1:] {
		m.flags = append(m.flags, "--join", one.ip, "--secret-file", filepath.Join(one.dataDir, ".ten", "secret"))
		wg.Go(m.start)
	}
	wg.Wait()
	for i := range instances {
		f.nodes[i%3].must("PUT", fmt.Sprintf("/api/instances/app:i%d", i), api.Instance{Desired: api.DesiredRunning}, nil)
	}
	f.settle()
}

// makeToken has the first machine make a token that all of them know.
func (f *fleet) makeToken() {
	f.t.Helper()
	out, err := f.nodes[0].ten("token-gen")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, word := range strings.Fields(out) {
		if strings.HasPrefix(word, "ten_") {
			f.token = word
			return
		}
	}
	f.t.Fatalf("no token in %q", out)
}

// pick returns a random machine.
func (f *fleet) pick() *machine { return f.nodes[f.rand.IntN(len(f.nodes))] }

// between returns a random duration.
func (f *fleet) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(f.rand.Int64N(int64(most-least)))
}

// others returns all machines but this one.
func (f *fleet) others(not *machine) (list []*machine) {
	for _, m := range f.nodes {
		if m != not {
			list = append(list, m)
		}
	}
	return list
}

// cluster returns what the machine says of the cluster.
func (m *machine) cluster() (c api.ClusterStatus, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = m.call(ctx, "GET", "/api/cluster", nil, &c)
	return c, err
}

// leader waits until one machine leads and all agree.
func (f *fleet) leader() *machine {
	f.t.Helper()
	var leader *machine
	f.until("one leader", patience, func() error {
		leader = nil
		for _, m := range f.nodes {
			c, err := m.cluster()
			if err != nil {
				return err
			}
			if c.Leader == c.Node {
				leader = m
			}
			for _, o := range c.Members {
				if c.Leader == o.ID && leader != nil && o.Name != leader.name {
					return fmt.Errorf("%s says that %s leads", m.name, o.Name)
				}
			}
		}
		if leader == nil {
			return fmt.Errorf("no leader")
		}
		return nil
	})
	return leader
}

// until repeats do, for which there is nothing to wait on, until it has no error.
func (f *fleet) until(what string, limit time.Duration, do func() error) time.Duration {
	f.t.Helper()
	begin := time.Now()
	for {
		err := do()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			f.t.Fatalf("%s: after %s: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settle waits until all is well: three voters, every instance running where it belongs,
// and the same state everywhere.
func (f *fleet) settle() {
	f.t.Helper()
	f.until("all is well", 2*patience, f.well)
	f.equal()
}

func (f *fleet) well() error {
	for _, m := range f.nodes {
		c, err := m.cluster()
		if err != nil {
			return err
		}
		for _, o := range c.Members {
			if o.Role != api.MemberVoter && o.Role != api.MemberLeader || !o.Reachable() {
				return fmt.Errorf("%s: %s is %q and %q: %s", m.name, o.Name, o.Role, o.Status, o.StatusReason)
			}
		}
		if len(c.Members) != len(f.nodes) || c.Leader == "" || c.Stale {
			return fmt.Errorf("%s: %d members, leader %q, stale %t", m.name, len(c.Members), c.Leader, c.Stale)
		}
		list, err := m.instances()
		if err != nil {
			return err
		}
		for _, in := range list {
			if in.Desired == api.DesiredRunning && (in.Observed == nil || in.State() != api.StateRunning && in.State() != api.StateAsleep || in.Previous != nil) {
				return fmt.Errorf("%s: %s is %s", m.name, in.Ref(), in.State())
			}
		}
	}
	return nil
}

func (m *machine) instances() (list []*api.Instance, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = m.call(ctx, "GET", "/api/instances", nil, &list)
	return list, err
}

// equal checks that all machines have the same state at the same index.
func (f *fleet) equal() {
	f.t.Helper()
	f.until("the same state on all nodes", patience, func() error {
		var index uint64
		var first [][]byte
		for i, m := range f.nodes {
			at, bodies, err := m.state()
			switch {
			case err != nil:
				return err
			case i == 0:
				index, first = at, bodies
			case at != index:
				return fmt.Errorf("%s is at %d, %s at %d", m.name, at, f.nodes[0].name, index)
			default:
				for n := range bodies {
					if !bytes.Equal(bodies[n], first[n]) {
						return fmt.Errorf("DIVERGED at %d: %s has\n%s\n%s has\n%s", index, m.name, bodies[n], f.nodes[0].name, first[n])
					}
				}
			}
		}
		return nil
	})
}

// state returns what the machine has at one index.
func (m *machine) state() (index uint64, bodies [][]byte, err error) {
	for _, path := range []string{"/api/services", "/api/instances", "/api/fleets", "/api/services"} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		var b []byte
		at, err := m.call(ctx, "GET", path, nil, &b)
		cancel()
		if err != nil {
			return 0, nil, err
		}
		if index != 0 && at != index {
			return 0, nil, fmt.Errorf("%s moves on from %d to %d", m.name, index, at)
		}
		index = at
		bodies = append(bodies, b)
	}
	return index, bodies, nil
}
