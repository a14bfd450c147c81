package acctest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// everyLeaderDies is how the whole suite is run by make testacc-faults: see [Mortal].
func everyLeaderDies() bool { return os.Getenv("TEN_LEADER_DIES") != "" }

// mortals are nodes, each a process of its own. In every life of the provider in which it
// writes, the leader is killed at the first write, and started again once another one leads.
// Terraform starts the provider for a plan, and again for the apply of it.
//
// All requests come in here, at a front for each node: what the provider asks says in which
// of its lives, since each has a version of its own; the others are the test's.
type mortals struct {
	t     *testing.T
	nodes []*process
	to    []http.Handler

	mu    sync.Mutex
	run   int64         // the newest life of the provider
	turn  int           // how many there were: which node is behind which front
	armed bool          // nobody was killed in this one
	kills int           // how often the leader was killed
	back  chan struct{} // closed once who was killed is back; nil while nobody is missing
}

// Mortal is Start with nodes whose leader dies in every apply that writes: just before its
// first write, while that is under way, or once it is done but not answered, in turn. A new
// leader is found and the old one comes back by itself; the next plan or apply, and the
// test's own client, wait until the cluster is whole.
func Mortal(t *testing.T, size int, cfg Config) *Cluster {
	t.Helper()
	Need(t)
	if cfg.Machine != nil {
		t.Skip("SKIPPED: its programs are in the test's own process, where no node can be killed")
	}
	m := &mortals{t: t}
	first := freePorts(t, size*ports)
	for i := range size {
		var join *process
		if i > 0 {
			join = m.nodes[0]
		}
		p := newProcess(t, fmt.Sprint("n", i+1), first+i*ports, join)
		p.TOML = cfg.TOML
		m.nodes = append(m.nodes, p)
	}
	t.Cleanup(m.end)
	for _, p := range m.nodes {
		m.open(p)
	}
	c := &Cluster{Size: size, mortals: m}
	for i := range m.nodes {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(i, w, r) })) //nolint:contextcheck // who was killed comes back after the request
		t.Cleanup(func() {
			front.CloseClientConnections() // streams may linger
			front.Close()
		})
		c.Endpoints = append(c.Endpoints, front.URL)
	}
	c.Token = newToken(t, m.nodes[0].client)
	var err error
	c.Client, err = client.New(client.Config{Endpoints: c.Endpoints, Token: c.Token, Persistent: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Client.Close)
	c.Voting(t)
	return c
}

// open starts a node and the way to it.
func (m *mortals) open(p *process) {
	m.t.Helper()
	err := p.start()
	var self *api.Node
	if err == nil {
		self, err = p.client.Node(m.t.Context())
	}
	if err != nil {
		m.t.Fatal(err)
	}
	p.id = self.ID
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	m.t.Cleanup(transport.CloseIdleConnections)
	m.to = append(m.to, &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: p.address(0)})
			r.Out.Host = r.In.Host
		},
		// A connection to the dead breaks.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	})
}

// end kills all that there are.
func (m *mortals) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.back != nil {
		<-m.back
	}
	for _, p := range m.nodes {
		p.kill()
		if said, _ := os.ReadFile(p.log()); m.t.Failed() && len(said) > 0 {
			m.t.Logf("node %s said\n%s", p.Name, tail(string(said)))
		}
	}
	m.t.Logf("the leader was killed %d times; the provider was started %d times", m.kills, m.turn)
}

// blow is what happens to the leader at a request.
type blow int

const (
	none blow = iota
	before
	during
	after
)

func (m *mortals) serve(front int, w http.ResponseWriter, r *http.Request) {
	b, victim, node := m.admit(front, r)
	switch b {
	case none:
	case before:
		m.nodes[victim].kill()
		go m.revive(victim)
	case during:
		go func() {
			m.nodes[victim].kill()
			m.revive(victim)
		}()
	case after:
		m.to[node].ServeHTTP(httptest.NewRecorder(), r)
		m.nodes[victim].kill()
		go m.revive(victim)
		panic(http.ErrAbortHandler)
	}
	m.to[node].ServeHTTP(w, r)
}

// admit says which node a request goes to, and what befalls the leader. It holds up
// requests while the cluster is not what it was before.
func (m *mortals) admit(front int, r *http.Request) (b blow, victim, node int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	run := runOf(r)
	if run == 0 || run > m.run {
		m.heal(r.Context())
	}
	if run > m.run {
		m.run, m.armed = run, true
		m.turn++
	}
	node = (front + m.turn) % len(m.nodes)
	if run == 0 || run < m.run || !m.armed || !writes(r) {
		return none, 0, node
	}
	victim = m.leader(r.Context())
	if victim < 0 {
		return none, 0, node // it is not the test's doing, and the next write will tell
	}
	m.armed, m.back = false, make(chan struct{})
	b = before + blow(m.kills%3)
	m.kills++
	return b, victim, node
}

// runOf returns which of the provider's lives a request is part of, 0 for none.
func runOf(r *http.Request) int64 {
	_, number, _ := strings.Cut(r.UserAgent(), "terraform-provider-ten/"+runPrefix)
	n, _ := strconv.ParseInt(number, 10, 64)
	return n
}

// A provider's version is the number of its life: later ones have larger numbers.
const runPrefix = "run-"

func runVersion() string { return runPrefix + strconv.FormatInt(time.Now().UnixNano(), 10) }

func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != "/api/plan"
}

// leader returns which node leads, -1 if none does.
func (m *mortals) leader(ctx context.Context) int {
	for i, p := range m.nodes {
		if s, err := p.client.Cluster(ctx); err == nil && s.Leader == p.id {
			return i
		}
	}
	return -1
}

// revive starts who was killed again, once another one leads.
func (m *mortals) revive(victim int) {
	defer close(m.back)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(m.nodes) > 1 && !until(ctx, func() bool {
		next := m.leader(ctx)
		return next >= 0 && next != victim
	}) {
		m.t.Errorf("nobody leads %s after node %s died", patience, m.nodes[victim].Name)
	}
	if err := m.nodes[victim].start(); err != nil {
		m.t.Error(err)
	}
}

// heal waits until nobody is missing, all know what the leader knows, and the instances are
// as they should be. The caller holds the lock.
func (m *mortals) heal(ctx context.Context) {
	if m.back == nil {
		return
	}
	<-m.back
	m.back = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if !until(ctx, func() bool { return m.whole(ctx) }) {
		m.t.Errorf("the cluster is not whole %s after the leader was killed", patience)
	}
}

func (m *mortals) whole(ctx context.Context) bool {
	lead := m.leader(ctx)
	if lead < 0 {
		return false
	}
	known, err := m.nodes[lead].client.Cluster(ctx)
	if err != nil || voting(known) != len(m.nodes) {
		return false
	}
	for i := range known.Members {
		if !known.Members[i].Reachable() {
			return false
		}
	}
	all, err := m.nodes[lead].client.Instances(ctx, client.InstanceQuery{})
	for _, i := range all {
		if !settled(i) {
			return false
		}
	}
	for _, p := range m.nodes {
		if s, other := p.client.Cluster(ctx); other != nil || s.Stale || s.Leader != known.Leader || s.Index < known.Index {
			return false
		}
	}
	return err == nil
}

// settled reports whether nothing more is going to happen to an instance by itself.
func settled(i *api.Instance) bool {
	o := i.Observed
	switch {
	case i.Node == "":
		return true // no node can take it
	case o == nil || o.Generation != i.Generation:
		return false
	case i.Desired == api.DesiredRunning:
		return o.State == api.StateFailed || o.State == api.StateAsleep || o.State.Serving() && o.Healthy
	default:
		return !o.State.Live()
	}
}

// patience bounds every wait; only a test that hangs comes near it.
const patience = 2 * time.Minute

// until asks again and again, for what is no part of the state that could be watched.
func until(ctx context.Context, ok func() bool) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
