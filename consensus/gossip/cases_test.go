package gossip

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// noUDP is a network that loses all packets and lets streams pass.
type noUDP struct{ *sockets }

func (noUDP) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }

func (noUDP) WriteToAddress([]byte, memberlist.Address) (time.Time, error) { return time.Now(), nil }

func TestUDPBlocked(t *testing.T) {
	var cfgs []Config
	for _, name := range []string{"a", "b", "c"} {
		cfg := testConfig(t, name)
		s, err := listen("127.0.0.1", 0, slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Transport = noUDP{s}
		cfgs = append(cfgs, cfg)
	}
	pools := openAll(t, cfgs...)
	for _, p := range pools {
		for _, o := range pools {
			if o == p {
				continue
			}
			m := await(t, p, o.cfg.NodeID, "alive over TCP only", func(m Member) bool {
				return m.State == StateAlive && m.Has(ProblemTCPOnly)
			})
			if m.Answered.IsZero() || m.RTT != 0 {
				t.Errorf("answered %v, rtt %v", m.Answered, m.RTT)
			}
		}
	}
}

// The same for ten minutes of simulated time, in which nobody may be suspected once.
func TestUDPBlockedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork()
		net.SetFault(func(_, _ netip.AddrPort, packet bool) (time.Duration, bool) { return time.Millisecond, packet })
		pools := simulate(t, net, 3)
		within(t, 2*time.Minute, pools, "complete", func(p *Pool) bool { return count(p, StateAlive) == 3 })
		start := time.Now()
		time.Sleep(10 * time.Minute)
		for _, p := range pools {
			for _, m := range p.Members() {
				if m.State != StateAlive || m.Since.After(start) || !m.Self && !m.Has(ProblemTCPOnly) {
					t.Errorf("%s sees %+v", p.cfg.Meta.Name, m)
				}
			}
		}
	})
}

func TestClockSkew(t *testing.T) {
	skew := map[string]time.Duration{"a": 0, "b": 24 * time.Hour, "c": -24 * time.Hour}
	var cfgs []Config
	for _, name := range []string{"a", "b", "c"} {
		cfg := testConfig(t, name)
		cfg.Now = func() time.Time { return time.Now().Add(skew[name]) }
		cfgs = append(cfgs, cfg)
	}
	for _, p := range openAll(t, cfgs...) {
		for _, m := range p.Members() {
			if d := p.cfg.Now().Sub(m.Since); d < 0 || d > patience {
				t.Errorf("%s knows %s since %v ago by its own clock", p.cfg.Meta.Name, m.Name, d)
			}
		}
	}
}

func TestDuplicateName(t *testing.T) {
	pools := openAll(t, testConfig(t, "a"), testConfig(t, "twin"), testConfig(t, "twin"))
	a, b, c := pools[0], pools[1], pools[2]
	await(t, a, b.cfg.NodeID, "flagged", has(ProblemDuplicateName))
	m := await(t, a, c.cfg.NodeID, "flagged", has(ProblemDuplicateName))
	if m.Problems[0].Detail != "also the name of "+b.cfg.NodeID {
		t.Errorf("problems: %v", m.Problems)
	}
	if m, _ := a.Member(a.cfg.NodeID); len(m.Problems) > 0 {
		t.Errorf("problems of a: %v", m.Problems)
	}
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, a, b.cfg.NodeID, "alone with its name", func(m Member) bool { return len(m.Problems) == 0 })
}

// Two running nodes have one id, as when a data directory is copied.
func TestDuplicateID(t *testing.T) {
	var log logLines
	cfg := testConfig(t, "a")
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	pools := openAll(t, cfg, testConfig(t, "b"))
	a, b := pools[0], pools[1]
	copied := testConfig(t, "copy")
	copied.NodeID = b.cfg.NodeID
	clone := open(t, copied)
	join(t, clone, a)

	m := await(t, a, b.cfg.NodeID, "flagged", has(ProblemDuplicateID))
	if m.GossipAddr != b.Addr() || m.Name != "b" || m.State != StateAlive {
		t.Errorf("the copy got in: %+v", m)
	}
	if testutil.ToFloat64(a.metrics.conflicts) == 0 {
		t.Error("no conflict counted")
	}
	if n := log.count("id is claimed at another address"); n != 1 {
		t.Errorf("%d log lines, want one", n)
	}
	await(t, clone, copied.NodeID, "flagged at the copy itself", has(ProblemDuplicateID))
}

// A lasting claim is an error: nobody moves for minutes.
func TestDuplicateIDGetsLoud(t *testing.T) {
	var log logLines
	cfg := testConfig(t, "a")
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p := open(t, cfg)
	p.stop()
	p.wg.Wait()
	for range 10 {
		p.conflict(cfg.NodeID, p.Addr(), addr(9))
		now = now.Add(p.claimTime() / 2)
	}
	if log.count("level=ERROR") != 0 {
		t.Error("an error too early")
	}
	p.pushPull = time.Minute
	for range 4 {
		p.conflict(cfg.NodeID, p.Addr(), addr(9))
		now = now.Add(time.Minute)
	}
	if log.count("level=ERROR") != 1 {
		t.Errorf("%d errors, want one", log.count("level=ERROR"))
	}
	now = now.Add(time.Hour)
	if m, _ := p.Member(cfg.NodeID); m.Has(ProblemDuplicateID) {
		t.Error("an old claim is still shown")
	}
}

// A new node comes up at the address of one that died.
func TestReusedAddress(t *testing.T) {
	pools := openAll(t, testConfig(t, "a"), testConfig(t, "old"))
	a, old := pools[0], pools[1]
	port := int(old.Addr().Port())
	closePool(t, old)
	cfg := testConfig(t, "new")
	cfg.Port = port
	fresh := open(t, cfg)
	join(t, fresh, a)

	await(t, a, cfg.NodeID, "alive", isState(StateAlive))
	m := await(t, a, old.cfg.NodeID, "dead", func(m Member) bool {
		return m.State == StateDead && m.Has(ProblemAddressTaken)
	})
	if m.Reason != "its address belongs to node "+cfg.NodeID+" now" {
		t.Errorf("reason: %s", m.Reason)
	}
	if got, ok := a.AddressOf(old.cfg.NodeID); ok {
		t.Errorf("the dead node is said to be at %s", got)
	}
	if got, ok := a.AddressOf(cfg.NodeID); !ok || got != cfg.Meta.PeerAddr {
		t.Errorf("the new node is at %q %v", got, ok)
	}
	if m, _ := a.Member(cfg.NodeID); len(m.Problems) > 0 {
		t.Errorf("problems of the new node: %v", m.Problems)
	}
}

func TestForeignCluster(t *testing.T) {
	tests := map[string]struct {
		reason string
		change func(*Config)
	}{
		"another cluster id": {reasonLabel, func(c *Config) { c.ClusterID = uuid.NewString() }},
		"another secret":     {reasonKey, func(c *Config) { c.Keys = func() [][]byte { return [][]byte{testKey(9)} } }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var log logLines
			cfg := testConfig(t, "a")
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			a := open(t, cfg)
			cfg = testConfig(t, "foreign")
			tt.change(&cfg)
			foreign := open(t, cfg)
			for range 3 {
				n, err := foreign.Join(t.Context(), a.Addr().String())
				if n != 0 || !errors.Is(err, ErrForeign) {
					t.Fatalf("joined %d, %v", n, err)
				}
			}
			if len(a.Members()) != 1 || len(foreign.Members()) != 1 {
				t.Errorf("members: %v, %v", a.Members(), foreign.Members())
			}
			// The joiner hears of the refusal before it is counted.
			closePool(t, foreign)
			before := testutil.ToFloat64(a.metrics.refusals.WithLabelValues(tt.reason))
			if before < 1 || before > 3 {
				t.Errorf("%v refusals counted", before)
			}
			if n := log.count("refused gossip"); n != 1 {
				t.Errorf("%d log lines, want one: %q", n, log.lines)
			}

			conn, err := net.Dial("udp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			packet := []byte("whatever it is, it was not encrypted with the key")
			if tt.reason == reasonKey {
				packet, _ = memberlist.AddLabelHeaderToPacket(packet, testCluster)
			}
			for deadline := time.Now().Add(patience); testutil.ToFloat64(a.metrics.refusals.WithLabelValues(tt.reason)) <= 3; {
				if _, err := conn.Write(packet); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatal("packets are not counted")
				}
			}
		})
	}
}

// hostile is a node with the key that does not keep to the rules.
type hostile struct{ meta []byte }

func (h hostile) NodeMeta(int) []byte           { return h.meta }
func (hostile) NotifyMsg([]byte)                {}
func (hostile) GetBroadcasts(int, int) [][]byte { return nil }
func (hostile) LocalState(bool) []byte          { return []byte("state that nobody asked for") }
func (hostile) MergeRemoteState([]byte, bool)   {}

func TestStrangeMembers(t *testing.T) {
	a := open(t, testConfig(t, "a"))
	attack := func(t *testing.T, name string, change func(*memberlist.Config)) {
		t.Helper()
		cfg := testConfig(t, "hostile")
		cfg.setDefaults()
		m := cfg.lan()
		m.Name, m.SecretKey, m.Delegate = name, testKey(1), hostile{}
		m.Logger = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)
		change(m)
		l, err := memberlist.Create(m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Shutdown() })
		_, _ = l.Join([]string{a.Addr().String()})
	}
	for name, meta := range map[string]string{
		"empty": "", "newer": "\x02abc", "short": "\x01\x10ab", "not printable": "\x01\x02\x1b[\x00\x00\x00\x00",
		"no address": "\x01\x00\x03xyz\x00\x00\x00",
	} {
		t.Run("metadata "+name, func(t *testing.T) {
			id := uuid.NewString()
			attack(t, id, func(m *memberlist.Config) { m.Delegate = hostile{[]byte(meta)} })
			m := await(t, a, id, "flagged", has(ProblemMetadata))
			if m.Meta != (Meta{}) || m.State != StateAlive {
				t.Errorf("member is %+v", m)
			}
			if got, ok := a.AddressOf(id); ok {
				t.Errorf("its address is %q", got)
			}
		})
	}
	refused := a.metrics.refusals.WithLabelValues(reasonIdentity)
	for name, change := range map[string]func(*memberlist.Config){
		"name":     func(m *memberlist.Config) { m.Name = "node-1" },
		"versions": func(m *memberlist.Config) { m.DelegateProtocolMax = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			before, members := testutil.ToFloat64(refused), len(a.Members())
			attack(t, uuid.NewString(), change)
			deadline := time.After(patience)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for testutil.ToFloat64(refused) == before {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatal("not refused")
				}
			}
			if err := a.lookNow(); err != nil {
				t.Fatal(err)
			}
			if n := len(a.Members()); n != members {
				t.Errorf("%d members, want %d", n, members)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	good := memberlist.Node{
		Name: uuid.NewString(), Addr: net.IPv4(10, 0, 0, 1), Port: 7946, Meta: make([]byte, memberlist.MetaMaxSize),
		PMin: 1, PMax: 5, PCur: 2, DMin: delegateVersionMin, DMax: delegateVersionMax, DCur: delegateVersion,
	}
	if err := admit(&good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*memberlist.Node){
		"name":         func(n *memberlist.Node) { n.Name = "mirror" },
		"upper case":   func(n *memberlist.Node) { n.Name = "8D3F7F8E-53A1-4C52-9C55-57D3F5A1B001" },
		"no address":   func(n *memberlist.Node) { n.Addr = nil },
		"odd address":  func(n *memberlist.Node) { n.Addr = net.IP{1, 2, 3} },
		"unspecified":  func(n *memberlist.Node) { n.Addr = net.IPv6unspecified },
		"no port":      func(n *memberlist.Node) { n.Port = 0 },
		"big metadata": func(n *memberlist.Node) { n.Meta = make([]byte, memberlist.MetaMaxSize+1) },
		"protocol":     func(n *memberlist.Node) { n.PMin = 3 },
		"too old":      func(n *memberlist.Node) { n.DMax = delegateVersion - 1 },
		"too new":      func(n *memberlist.Node) { n.DMin = delegateVersion + 1 },
	} {
		bad := good
		change(&bad)
		if admit(&bad) == nil {
			t.Errorf("%s: admitted", name)
		}
	}
}

// A node was killed and comes back at another address.
func TestRejoinAtNewAddress(t *testing.T) {
	pools := openAll(t, testConfig(t, "a"), testConfig(t, "b"), testConfig(t, "c"))
	a, b, c := pools[0], pools[1], pools[2]
	cfg := b.cfg
	cfg.Meta.PeerAddr = "192.0.2.9:7947"
	closePool(t, b)
	again := open(t, cfg)
	join(t, again, a) // a still believes in the old address and refuses the new one
	for _, p := range []*Pool{a, c} {
		await(t, p, cfg.NodeID, "alive at the new address", func(m Member) bool {
			return m.State == StateAlive && m.GossipAddr == again.Addr()
		})
		if got, _ := p.AddressOf(cfg.NodeID); got != cfg.Meta.PeerAddr {
			t.Errorf("%s knows the address %q", p.cfg.Meta.Name, got)
		}
	}
}
