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
// After adding a command, extend goldenScript, raise goldenName and run with -update.
const goldenName = "001"

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
		{PutToken: &PutToken{token}},
		{PutToken: &PutToken{testToken("ba9876543210")}},
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

// The script still gives what the newest golden log holds: nothing has changed the
// meaning of a command, or the golden log lacks one.
func TestGoldenIsCurrent(t *testing.T) {
	d, replayed := drive(t), New()
	goldenScript(d)
	for _, e := range readGolden(t, "testdata/"+goldenName+".log") {
		applyOne(t, replayed, e)
	}
	if got, want := d.View().Hash(), replayed.View().Hash(); got != want {
		t.Errorf("the script gives %x, testdata/%s.log gives %x", got, goldenName, want)
	}
}

func writeGolden(t *testing.T) {
	d := drive(t)
	goldenScript(d)
	var log bytes.Buffer
	for _, e := range d.log {
		fmt.Fprintf(&log, "%d %s", e[0], e[1:])
	}
	for name, b := range map[string][]byte{".log": log.Bytes(), ".snapshot": snapshotOf(t, d.View())} {
		if err := os.WriteFile("testdata/"+goldenName+name, b, 0o600); err != nil {
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
