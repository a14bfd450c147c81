package state

import (
	"flag"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func at(sec int) time.Time { return epoch.Add(time.Duration(sec) * time.Second) }

func ref(service, id string) api.Ref { return api.Ref{Service: service, ID: id} }

func ptr[T any](v T) *T { return &v }

func testService(name string, change ...func(*api.Service)) api.Service {
	s := api.Service{Name: name, Command: "serve --port {port}"}
	for _, f := range change {
		f(&s)
	}
	s.SetDefaults()
	return s
}

func testInstance(service, id string, change ...func(*api.Instance)) api.Instance {
	i := api.Instance{Service: service, ID: id}
	for _, f := range change {
		f(&i)
	}
	i.SetDefaults()
	return i
}

func testNode(id string) api.Node {
	n := api.Node{ID: id, Name: "node-" + id, Isolations: []api.Isolation{api.IsolationProcess}}
	n.SetDefaults()
	return n
}

func testToken(id string) api.Token {
	return api.Token{ID: id, Role: api.RoleAdmin, SHA256: make([]byte, 32)}
}

// driven applies commands through their encoding, each at a second of its own.
type driven struct {
	*Store
	t   testing.TB
	log [][]byte // the entries so far
}

func drive(t testing.TB) *driven { return &driven{Store: New(), t: t} }

func (d *driven) do(c Command) Result {
	d.t.Helper()
	if c.Time.IsZero() {
		c.Time = at(len(d.log))
	}
	d.log = append(d.log, Entry(encode(d.t, c)))
	return applyOne(d.t, d.Store, d.log[len(d.log)-1])
}

func encode(t rapid.TB, c Command) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// applyOne applies an entry of one readable command.
func applyOne(t rapid.TB, s *Store, entry []byte) Result {
	t.Helper()
	res, err := s.Apply(entry)
	if err != nil || len(res[0]) != 1 {
		t.Fatalf("apply %q: got %v %v", entry, res, err)
	}
	return res[0][0]
}

func (d *driven) must(c Command) any {
	d.t.Helper()
	res := d.do(c)
	if res.Err != nil {
		d.t.Fatal(res.Err)
	}
	return res.Object
}

// fails returns the message of the error.
func (d *driven) fails(c Command, want api.Code) string {
	d.t.Helper()
	before := d.View()
	res := d.do(c)
	if got := api.CodeOf(res.Err); got != want {
		d.t.Fatalf("got error %v (%s), want code %s", res.Err, got, want)
	}
	if d.View() != before {
		d.t.Fatal("a failed command made a new version")
	}
	return res.Err.Error()
}

func putService(s api.Service) Command { return Command{PutService: &PutService{Service: s}} }

func putInstance(i api.Instance) Command { return Command{PutInstance: &PutInstance{Instance: i}} }

func testFleet(service, name string, replicas int, change ...func(*api.Fleet)) api.Fleet {
	f := api.Fleet{Service: service, Name: name, Replicas: replicas}
	for _, c := range change {
		c(&f)
	}
	f.SetDefaults()
	return f
}

func putFleet(service, name string, replicas int, change ...func(*api.Fleet)) Command {
	return Command{PutFleet: &PutFleet{Fleet: testFleet(service, name, replicas, change...)}}
}

// describe is what a node of this build says of itself.
func describe(id string, change ...func(*api.Node)) Command {
	n := testNode(id)
	n.StateVersion = StateVersion
	for _, c := range change {
		c(&n)
	}
	return Command{DescribeNode: &DescribeNode{Node: n}}
}

func place(p ...Placement) Command { return Command{Place: &Place{Placements: p}} }

func report(node string, reports ...api.Report) Command {
	return Command{Report: &Report{Node: node, Reports: reports}}
}

// seen is a report about an instance at a generation.
func seen(r api.Ref, generation uint64, s api.State) api.Report {
	return api.Report{Ref: r, Observed: api.Observed{State: s, Generation: generation, Since: epoch}}
}
