package state

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// A golden log is what some release wrote, and must replay for ever: its files are
// never written anew, only joined by others. A line of a log is an entry of one command,
// its first byte printed as a decimal number.
//
// After adding a command, add a golden log for it and run with -update, which writes the
// newest.
var goldens = []struct {
	name   string
	script func(*driven)
}{
	{"001", goldenScript},  // one server: state version 1
	{"002", goldenScript2}, // many servers: state version 2
	{"003", goldenScript3}, // sealed values
	{"004", goldenScript4}, // routes
	{"005", goldenScript5}, // variables that are secret: state version 3
}

func goldenScript(d *driven) {
	full := testService("web", func(s *api.Service) {
		s.Args, s.Env = []string{"--port", "{port}", "ünïcode <&>"}, map[string]string{"B": "2", "A": "1\n"}
		s.Workdir, s.Socket, s.Health = "/srv", "/tmp/{id}.sock", "/up"
		s.Isolation, s.Restart = api.IsolationProcess, api.RestartOnFailure
		s.IdleTimeout, s.MemoryLimit, s.CPUShares = api.Seconds(90), 512*api.MiB, 100
		s.StorageQuota, s.StoragePersist = api.GiB, ptr(false)
		s.Kernel, s.Rootfs, s.Memory, s.VCPUs, s.VsockPort = "k", "r", api.MiB, 2, 3
		s.SpawnOnRequest, s.MaxInstances = true, 5
	})
	node := testNode("2f1b6f0e-0000-4000-8000-000000000001")
	node.Region, node.Zone, node.Provider, node.Labels = "eu", "eu-1", "acme", map[string]string{"disk": "nvme"}
	node.Capacity, node.Version = api.Capacity{CPUs: 8, Memory: 16 * api.GiB}, "v1"
	token := testToken("0123456789ab")
	token.Role, token.Tenant, token.Description, token.ExpiresAt = api.RoleTenant, "alice", "for alice", at(9999)
	observed := api.Observed{
		State: api.StateBackoff, Reason: "exit 3", PID: 42, Endpoint: &api.Endpoint{Network: "tcp", Address: "127.0.0.1:30000"},
		Restarts: 2, ExitCode: ptr(3), Since: at(7), ServiceRevision: 3, Generation: 1,
	}
	for _, c := range []Command{
		{InitCluster: &InitCluster{"2f1b6f0e-0000-4000-8000-00000000c105"}},
		{PutNode: &PutNode{node}},
		putService(full),
		putService(testService("plain")),
		putInstance(testInstance("web", "alice", func(i *api.Instance) { i.Weight = ptr(0) })),
		putInstance(testInstance("web", "bob", func(i *api.Instance) { i.Desired, i.Source = api.DesiredAsleep, api.SourceRequest })),
		putInstance(testInstance("nosuch", "x")),
		{Place: &Place{[]Placement{{Ref: ref("web", "alice"), Node: node.ID, Generation: 1}, {Ref: ref("web", "carol"), Node: node.ID, Generation: 1}}}},
		{Report: &Report{node.ID, []api.Report{{Ref: ref("web", "alice"), Observed: observed}}}},
		{PutToken: &PutToken{Token: token}},
		{PutToken: &PutToken{Token: testToken("ba9876543210")}},
		{DeleteToken: &DeleteToken{"ba9876543210"}},
		{PutInstance: &PutInstance{testInstance("web", "alice"), ptr(uint64(5))}},
		{PutInstance: &PutInstance{testInstance("web", "alice", func(i *api.Instance) { i.Weight = ptr(3) }), ptr(uint64(5))}},
		putInstance(testInstance("plain", "gone")),
		{DeleteInstance: &DeleteInstance{Ref: ref("plain", "gone")}},
		{SyncFile: &SyncFile{Services: []api.Service{testService("filed"), testService("plain")}, Instances: []api.Ref{ref("filed", "main"), ref("plain", "one")}}},
		{SyncFile: &SyncFile{Services: []api.Service{testService("filed", func(s *api.Service) { s.Health = "/" })}, Instances: []api.Ref{ref("filed", "main")}}},
		putService(testService("deleted")),
		{DeleteService: &DeleteService{Name: "deleted", IfMatch: ptr(uint64(16))}},
	} {
		d.do(c)
	}
}

// goldenScript2 has every command and every field that came with state version 2.
func goldenScript2(d *driven) {
	const n1, n2, n3 = "2f1b6f0e-0000-4000-8000-000000000001", "2f1b6f0e-0000-4000-8000-000000000002", "2f1b6f0e-0000-4000-8000-000000000003"
	describe := describing(2)
	full := describe(n1, func(n *api.Node) {
		n.Region, n.Zone, n.Provider, n.Labels = "eu", "eu-1", "acme", map[string]string{"gpu": "a", "disk": "nvme"}
		n.Capacity, n.Version = api.Capacity{CPUs: 8, Memory: 16 * api.GiB, Storage: api.TiB}, "v2"
		n.HTTPAddress, n.PeerAddress, n.GossipAddress = "10.0.0.1:8080", "10.0.0.1:7947", "10.0.0.1:7946"
		n.SecretIDs = []string{"aa", "bb"}
	})
	rules := &api.PlacementRules{
		Strategy: api.StrategyBinpack, SpreadBy: api.SpreadByZone, Constraints: []api.Constraint{"zone = eu-1|eu-2", "!label.old"},
		Affinities: []api.Affinity{{Match: "label.gpu", Weight: -50}}, AntiAffinity: []string{"web"},
	}
	web := testService("web", func(s *api.Service) {
		s.Placement, s.OnDisconnect, s.MaxInstances = rules, api.DisconnectStop, 7
	})
	bare := testService("bare", func(s *api.Service) { s.StoragePersist = ptr(false) })
	fetched := seen(ref("web", "a"), 2, api.StateRunning)
	fetched.DataHere = true
	to := func(r api.Ref, node string, generation uint64, keep bool) Placement {
		return Placement{Ref: r, Node: node, Generation: generation, KeepPrevious: keep}
	}
	a, b, pinned := ref("web", "a"), ref("bare", "b"), testInstance("web", "pinned", func(i *api.Instance) { i.Pin = n1 })
	for _, c := range []Command{
		full, describe(n2), describe(n3), describe(n3, func(n *api.Node) { n.Name = "node-" + n2 }),
		putService(web), putService(bare), putInstance(testInstance("web", "a")), putInstance(testInstance("bare", "b")), putInstance(pinned),
		putFleet("web", "f", 3, func(f *api.Fleet) { f.Weight, f.Placement = ptr(30), rules }),
		putFleet("bare", "gone", 1), putFleet("web", "big", 9),
		place(to(a, n1, 1, false), to(b, n1, 1, true), to(ref("web", "f-0"), n1, 1, false), to(ref("web", "f-1"), n2, 1, false)),
		report(n1, seen(a, 1, api.StateRunning), seen(b, 1, api.StateRunning), seen(ref("web", "f-0"), 1, api.StateAsleep)),
		place(to(a, n2, 2, false), to(b, n2, 2, true), to(ref("web", "f-0"), "", 2, false)),
		report(n2, fetched),
		{EndMove: &EndMove{Ref: b, Generation: 1}},
		place(to(b, n3, 3, true), to(a, n3, 3, true)),
		{EndMove: &EndMove{Ref: a, Generation: 3}},
		putFleet("web", "f", 2, func(f *api.Fleet) { f.Weight, f.Placement = ptr(50), rules }),
		{DeleteFleet: &DeleteFleet{Ref: ref("bare", "gone"), IfMatch: ptr(uint64(10))}},
		{DeleteInstance: &DeleteInstance{Ref: ref("web", "f-0")}},
		putInstance(testInstance("web", "f-1", func(i *api.Instance) { i.Desired, i.Weight = api.DesiredStopped, ptr(50) })),
		{SetNode: &SetNode{ID: n2, Eligibility: api.EligibilityDraining, IfMatch: ptr(uint64(2))}},
		{NodeStatus: &NodeStatus{ID: n1, Status: api.NodeDown, Reason: "connection refused", At: at(50), Deadline: at(52)}},
		{NodeStatus: &NodeStatus{ID: n1, Status: api.NodeUp, At: at(51)}},
		{DeleteNode: &DeleteNode{ID: n1}},
		{DeleteNode: &DeleteNode{ID: n2}},
		place(to(b, n2, 4, true)),
		{NodeStatus: &NodeStatus{ID: n3, Status: api.NodeLeft, Reason: "shut down", At: at(60)}},
		{SyncFile: &SyncFile{Node: n2, Services: []api.Service{testService("filed")}, Instances: []api.Ref{ref("filed", "main")}}},
		{SyncFile: &SyncFile{Node: n3, Services: []api.Service{testService("other")}, Instances: []api.Ref{ref("filed", "own")}}},
		putJoinToken(testJoinToken("0123456789ab", func(k *api.JoinToken) { k.Description, k.ExpiresAt, k.MaxUses = "for n4", at(900), 2 })),
		putJoinToken(testJoinToken("ba9876543210")),
		{DeleteJoinToken: &DeleteJoinToken{ID: "ba9876543210"}},
		{UseJoinToken: &UseJoinToken{ID: "0123456789ab", At: at(70)}},
		{UseJoinToken: &UseJoinToken{ID: "0123456789ab", At: at(901)}},
		{PutSecret: &PutSecret{Phase: api.SecretInstall, Sealed: []byte{1, 2, 3}, IDs: []string{"aa", "bb"}, IfMatch: ptr(uint64(0))}},
	} {
		d.do(c)
	}
}

// goldenScript3 has the values that only the cluster's servers can read, and what they
// and a rotation of the secret mean to each other.
func goldenScript3(d *driven) {
	seal := func(name, value, secret string, ifMatch *uint64) Command {
		return Command{PutSealed: &PutSealed{Name: name, Value: []byte(value), SecretID: secret, IfMatch: ifMatch}}
	}
	step := func(phase api.SecretPhase, ids ...string) Command {
		return Command{PutSecret: &PutSecret{Phase: phase, Sealed: []byte{1}, IDs: ids}}
	}
	for _, c := range []Command{
		seal("key", "one", "aa", ptr(uint64(0))), seal("key", "two", "aa", ptr(uint64(0))), seal("other", "x", "aa", nil),
		step(api.SecretInstall, "aa", "bb"), seal("third", "too early", "bb", nil), seal("third", "y", "aa", nil),
		step(api.SecretUse, "bb", "aa"), seal("other", "too late", "aa", nil), seal("key", "one again", "bb", ptr(uint64(1))),
		seal("other", "x again", "bb", nil), step(api.SecretRemove, "bb"), seal("third", "too late", "aa", nil),
	} {
		d.do(c)
	}
}

// goldenScript4 has routes, and how they meet.
func goldenScript4(d *driven) {
	full := testRoute("shop", func(r *api.Route) {
		r.Hosts, r.Paths = []string{"shop.example.com", "www.shop.example.com"}, []string{"/", "/basket"}
		r.Backends = []api.Backend{{Service: "web", Instance: "v1", Weight: ptr(90)}, {Service: "web", Fleet: "v2", Weight: ptr(0)}, {Service: "old"}}
		r.Message = "Back at 10.\n<ünïcode &>"
	})
	moved, paused := *full.Clone(), *full.Clone()
	moved.Hosts, moved.Mode = moved.Hosts[1:], api.RouteMaintenance
	paused.Mode = api.RoutePause
	for _, c := range []Command{
		{PutRoute: &PutRoute{Route: full, IfMatch: ptr(uint64(0))}},
		putRoute(full),
		putRoute(testRoute("late", addressed([]string{"shop.example.com"}, "/basket"))),
		putRoute(testRoute("below", addressed([]string{"shop.example.com"}, "/basket/now"))),
		putRoute(testRoute("own", addressed(nil, "/docs"))), putRoute(testRoute("too", addressed(nil, "/docs", "/help"))),
		{PutRoute: &PutRoute{Route: paused, IfMatch: ptr(uint64(3))}},
		{PutRoute: &PutRoute{Route: paused, IfMatch: ptr(uint64(1))}},
		putRoute(moved), putRoute(testRoute("late", addressed([]string{"shop.example.com"}, "/basket"))),
		{DeleteRoute: &DeleteRoute{Name: "below", IfMatch: ptr(uint64(9))}},
		{DeleteRoute: &DeleteRoute{Name: "below"}},
		{DeleteRoute: &DeleteRoute{Name: "below"}},
		putRoute(testRoute("empty", func(r *api.Route) { r.Backends = nil })),
	} {
		d.do(c)
	}
}

// describing is describe by a build of a version.
func describing(version int) func(id string, change ...func(*api.Node)) Command {
	return func(id string, change ...func(*api.Node)) Command {
		c := describe(id, change...)
		c.DescribeNode.Node.StateVersion = version
		return c
	}
}

// goldenScript5 has services with secret variables, from users and from a file.
func goldenScript5(d *driven) {
	secret := func(name string, names ...string) api.Service {
		return testService(name, func(s *api.Service) {
			s.Env, s.SecretEnv = map[string]string{"PLAIN": "1", "PASSWORD": "sesame", "KEY": "k\n"}, names
		})
	}
	for _, c := range []Command{
		putService(secret("web")), putService(secret("web", "PASSWORD")), putService(secret("web", "PASSWORD")),
		{PutService: &PutService{Service: secret("web", "KEY", "PASSWORD"), IfMatch: ptr(uint64(2))}},
		describing(3)("2f1b6f0e-0000-4000-8000-000000000001"),
		{SyncFile: &SyncFile{Services: []api.Service{secret("filed", "KEY")}, Instances: []api.Ref{ref("filed", "main")}}},
		describing(2)("2f1b6f0e-0000-4000-8000-000000000002"),
		putService(secret("web")),
	} {
		d.do(c)
	}
}

func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	logs, err := filepath.Glob("testdata/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatalf("no golden logs: %v", err)
	}
	for _, path := range logs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			log := readGolden(t, path)
			replayed := New()
			for _, e := range log {
				applyOne(t, replayed, e)
			}
			restored := New()
			snapshot, err := os.Open(path[:len(path)-len(".log")] + ".snapshot")
			if err != nil {
				t.Fatal(err)
			}
			defer snapshot.Close() //nolint:errcheck // only read
			if err := restored.Restore(snapshot); err != nil {
				t.Fatal(err)
			}
			// Compared as today's code writes them: a field added since then may show.
			got, want := snapshotOf(t, replayed.View()), snapshotOf(t, restored.View())
			if !bytes.Equal(got, want) {
				t.Errorf("replayed:\n%s\nrestored:\n%s", got, want)
			}
		})
	}
}

// The scripts still give what the golden logs hold: nothing has changed the meaning of a
// command, or the newest golden log lacks one.
func TestGoldenIsCurrent(t *testing.T) {
	for _, g := range goldens {
		d, replayed := drive(t), New()
		g.script(d)
		for _, e := range readGolden(t, "testdata/"+g.name+".log") {
			applyOne(t, replayed, e)
		}
		if got, want := d.View().Hash(), replayed.View().Hash(); got != want {
			t.Errorf("the script gives %x, testdata/%s.log gives %x", got, g.name, want)
		}
	}
}

func writeGolden(t *testing.T) {
	d, newest := drive(t), goldens[len(goldens)-1]
	newest.script(d)
	var log bytes.Buffer
	for _, e := range d.log {
		fmt.Fprintf(&log, "%d %s", e[0], e[1:])
	}
	for name, b := range map[string][]byte{".log": log.Bytes(), ".snapshot": snapshotOf(t, d.View())} {
		if err := os.WriteFile("testdata/"+newest.name+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readGolden(t testing.TB, path string) (log [][]byte) {
	b, err := os.ReadFile(path) //nolint:gosec // a golden file
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		version, command, _ := bytes.Cut(line, []byte(" "))
		n, err := strconv.ParseUint(string(version), 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, append([]byte{byte(n)}, command...))
	}
	return log
}
