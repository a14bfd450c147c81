package gossip

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLifeOfACluster(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := testConfig(t, "a")
	cfg.Registerer = reg
	pools := openAll(t, cfg, testConfig(t, "b"), testConfig(t, "c"))
	a, b, c := pools[0], pools[1], pools[2]
	bID, cID := b.cfg.NodeID, c.cfg.NodeID

	m, _ := a.Member(bID)
	if m.Meta != b.cfg.Meta || m.GossipAddr != b.Addr() || m.Self || m.Reason != "" || m.Since.IsZero() {
		t.Errorf("b is %+v", m)
	}
	if self, _ := a.Member(a.cfg.NodeID); !self.Self {
		t.Errorf("self is %+v", self)
	}
	if got := len(a.Members()); got != 3 {
		t.Errorf("%d members, want 3 and no mirror", got)
	}

	meta := b.cfg.Meta
	meta.PeerAddr, meta.Zone = "192.0.2.7:7947", "fsn1"
	if err := b.SetMeta(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
	await(t, a, bID, "the new metadata", func(m Member) bool { return m.Meta == meta })
	if got, ok := a.AddressOf(bID); !ok || got != "192.0.2.7:7947" {
		t.Errorf("address of b: %q %v", got, ok)
	}

	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	closePool(t, b)
	if m := await(t, a, bID, "left", isState(StateLeft)); m.Reason == "" || m.SuspectedBy != "" {
		t.Errorf("b left, but is %+v", m)
	}

	closePool(t, c)
	m = await(t, a, cID, "dead", func(m Member) bool { return m.State == StateDead && m.SuspectedBy != "" })
	if m.SuspectedBy != a.cfg.NodeID || !strings.Contains(m.Reason, "connection refused") {
		t.Errorf("c died, but is %+v", m)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tenement_gossip_members Nodes known, this one included.
# TYPE tenement_gossip_members gauge
tenement_gossip_members{state="alive"} 1
tenement_gossip_members{state="dead"} 1
tenement_gossip_members{state="left"} 1
tenement_gossip_members{state="suspect"} 0
`), "tenement_gossip_members")
	if err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(a.metrics.joins); n < 2 {
		t.Errorf("%v joins counted", n)
	}
	closePool(t, a)
	if fams, err := reg.Gather(); err != nil || len(fams) > 0 {
		t.Errorf("metrics are left behind: %v %v", fams, err)
	}
	if err := a.SetMeta(t.Context(), meta); !errors.Is(err, ErrClosed) {
		t.Errorf("SetMeta after Close: %v", err)
	}
	if err := a.Leave(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Leave after Close: %v", err)
	}
}

func TestJoinSaysWhichAddressFailed(t *testing.T) {
	a, b, gone := open(t, testConfig(t, "a")), open(t, testConfig(t, "b")), open(t, testConfig(t, "gone"))
	nobody := gone.Addr().String()
	closePool(t, gone)
	n, err := a.Join(t.Context(), nobody, b.Addr().String(), "no-port")
	if n != 1 {
		t.Errorf("reached %d", n)
	}
	je, ok := errors.AsType[*JoinError](err)
	if !ok || je.Address != nobody || errors.Is(err, ErrForeign) {
		t.Errorf("error is %v", err)
	}
	if !strings.Contains(err.Error(), "join no-port: ") {
		t.Errorf("error is %v", err)
	}
}

// Close ends a join that waits for an answer.
func TestCloseDuringJoin(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig(t, "a")
	cfg.tune = func(m *memberlist.Config) { m.TCPTimeout = time.Hour }
	a := open(t, cfg)
	joined := make(chan error, 1)
	go func() {
		_, err := a.Join(t.Context(), ln.Addr().String())
		joined <- err
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	closePool(t, a)
	if err := <-joined; err == nil {
		t.Error("joined nobody without an error")
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := open(t, testConfig(t, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := ln.Accept(); err == nil {
			defer conn.Close()
			cancel()
			<-t.Context().Done()
		}
	}()
	if _, err := a.Join(ctx, ln.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// nowhere is a transport that cannot say where it is.
type nowhere struct{ mirrorTransport }

func (nowhere) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return net.IPv4zero, 0, nil }

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"id":         {func(c *Config) { c.NodeID = "node-1" }, "node id"},
		"upper case": {func(c *Config) { c.NodeID = strings.ToUpper(c.NodeID) }, "lower case"},
		"nowhere":    {func(c *Config) { c.Transport = nowhere{} }, "no address that others can reach"},
		"cluster":    {func(c *Config) { c.ClusterID = "" }, "cluster id"},
		"bind":       {func(c *Config) { c.Bind = "localhost" }, `bind "localhost"`},
		"port":       {func(c *Config) { c.Port = 65536 }, "port 65536"},
		"wildcard":   {func(c *Config) { c.Bind = "::" }, "advertise: needed"},
		"advertise":  {func(c *Config) { c.Advertise = "0.0.0.0" }, "advertise"},
		"no keys":    {func(c *Config) { c.Keys = func() [][]byte { return nil } }, "keys"},
		"short key":  {func(c *Config) { c.Keys = func() [][]byte { return [][]byte{make([]byte, 16)} } }, "16 bytes"},
		"long meta":  {func(c *Config) { c.Meta.Zone = strings.Repeat("z", 200) }, "at most 200"},
		"bad meta":   {func(c *Config) { c.Meta.Name = "a\x1b[2J" }, "printed"},
		"no address": {func(c *Config) { c.Meta.PeerAddr = "7947" }, "host:port"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, "a")
			tt.change(&cfg)
			p, err := Open(cfg)
			if err == nil {
				closePool(t, p)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}
