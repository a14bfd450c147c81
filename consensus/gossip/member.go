package gossip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what this node believes of another.
type State string

// The states.
const (
	StateAlive   State = "alive"
	StateSuspect State = "suspect" // does not answer, and may still object
	StateDead    State = "dead"    // did not answer for longer than that
	StateLeft    State = "left"    // said that it goes
)

func stateOf(s memberlist.NodeStateType) State {
	switch s {
	case memberlist.StateAlive:
		return StateAlive
	case memberlist.StateSuspect:
		return StateSuspect
	case memberlist.StateLeft:
		return StateLeft
	default:
		return StateDead
	}
}

// Gone reports whether the node is no member any more.
func (s State) Gone() bool { return s == StateDead || s == StateLeft }

// Member is one node as this node sees it.
type Member struct {
	ID   string
	Meta // zero if it cannot be read
	// GossipAddr is where the node was last reached.
	GossipAddr netip.AddrPort
	Self       bool
	State      State
	// Since is when this node learned of State, by its own clock.
	Since time.Time
	// SuspectedBy is this node's id if its own probes of a suspect or dead node fail, and
	// empty if it has it from others: whom from, memberlist does not say.
	SuspectedBy string
	// Reason says why the state is not alive.
	Reason string
	// Answered is when the node last answered a probe of this node. In a large cluster
	// minutes may lie between two of them.
	Answered time.Time
	// RTT is how long the last answer over UDP took.
	RTT time.Duration
	// Problems are what an operator should look at, whatever the state.
	Problems []Problem
}

// Problem is something wrong with a member.
type Problem struct {
	Kind   ProblemKind
	Detail string
}

// ProblemKind says what is wrong.
type ProblemKind string

// The kinds of problems.
const (
	ProblemDuplicateName ProblemKind = "duplicate_name" // other nodes have the same human name
	ProblemDuplicateID   ProblemKind = "duplicate_id"   // another address claims the same id
	ProblemAddressTaken  ProblemKind = "address_taken"  // another node has its address now
	ProblemMetadata      ProblemKind = "metadata"       // what it says about itself cannot be read
	ProblemTCPOnly       ProblemKind = "tcp_only"       // answers over TCP but not over UDP
)

// Has reports whether m has a problem of the kind.
func (m *Member) Has(kind ProblemKind) bool {
	return slices.ContainsFunc(m.Problems, func(p Problem) bool { return p.Kind == kind })
}

// maxGone bounds how many nodes are remembered that are gone; the oldest are forgotten.
const maxGone = 256

// record is what is kept of a node between two looks at memberlist's table.
type record struct {
	id      string
	addr    netip.AddrPort
	rawMeta string
	meta    Meta
	metaErr error
	state   State
	since   time.Time // of state
	moved   time.Time // since when it is at addr
	// claim is another address that claims the same id; zero: none.
	claim               netip.AddrPort
	claimFirst, claimAt time.Time
	// What this node's own probes said at the last look.
	tcpOnly, failing bool
}

// table is every node known.
type table map[string]*record

// merge takes over a look at memberlist's table and returns the records whose state has
// changed, and whether anything has.
func (t table) merge(nodes []memberlist.Node, now time.Time) (turned []*record, changed bool) {
	seen := make(map[string]bool, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		seen[n.Name] = true
		r := t[n.Name]
		if r == nil {
			r = &record{id: n.Name}
			t[n.Name] = r
		}
		addr, meta := addrPort(n.Addr, n.Port), string(n.Meta)
		if addr != r.addr {
			r.moved, r.claim = now, netip.AddrPort{}
		}
		if addr != r.addr || meta != r.rawMeta {
			r.addr, r.rawMeta, changed = addr, meta, true
			r.meta, r.metaErr = decodeMeta(n.Meta, addr.Addr().String())
		}
		if s := stateOf(n.State); s != r.state {
			if s == StateAlive && r.state.Gone() {
				r.moved = now // it may have been away and another at its address
			}
			r.state, r.since = s, now
			turned = append(turned, r)
		}
	}
	for id, r := range t {
		// memberlist forgets only who is gone.
		if !seen[id] && !r.state.Gone() {
			r.state, r.since = StateDead, now
			turned = append(turned, r)
		}
	}
	t.prune(seen)
	return turned, changed || len(turned) > 0
}

// prune forgets the nodes that are gone longest.
func (t table) prune(seen map[string]bool) {
	var gone []*record
	for id, r := range t {
		if !seen[id] && r.state.Gone() {
			gone = append(gone, r)
		}
	}
	if len(gone) <= maxGone {
		return
	}
	slices.SortFunc(gone, func(a, b *record) int { return a.since.Compare(b.since) })
	for _, r := range gone[:len(gone)-maxGone] {
		delete(t, r.id)
	}
}

// taken returns who has r's address now, if somebody else does: who came there last.
func (t table) taken(r *record) *record {
	for _, o := range t {
		if o == r || o.addr != r.addr || o.state != StateAlive {
			continue
		}
		if o.moved.After(r.moved) || o.moved.Equal(r.moved) && r.state != StateAlive {
			return o
		}
	}
	return nil
}

// members describes all nodes, ordered by id.
func (t table) members(self string, now time.Time, claimTime time.Duration, probes *probes) []Member {
	byName := map[string][]string{}
	byAddr := map[netip.AddrPort]int{}
	for _, r := range t {
		byAddr[r.addr]++
		if r.meta.Name != "" && !r.state.Gone() {
			byName[r.meta.Name] = append(byName[r.meta.Name], r.id)
		}
	}
	list := make([]Member, 0, len(t))
	for _, r := range t {
		e := probes.of(r.id)
		m := Member{
			ID: r.id, Meta: r.meta, GossipAddr: r.addr, Self: r.id == self, State: r.state, Since: r.since,
			Answered: e.answered, RTT: e.rtt,
		}
		var taken *record
		if byAddr[r.addr] > 1 {
			taken = t.taken(r)
		}
		m.explain(self, now, e, taken)
		if same := byName[r.meta.Name]; len(same) > 1 && !r.state.Gone() {
			others := slices.DeleteFunc(slices.Clone(same), func(id string) bool { return id == r.id })
			slices.Sort(others)
			m.problem(ProblemDuplicateName, "also the name of %s", strings.Join(others, ", "))
		}
		if r.metaErr != nil {
			m.problem(ProblemMetadata, "%v", r.metaErr)
		}
		if r.claim.IsValid() && now.Sub(r.claimAt) < claimTime {
			m.problem(ProblemDuplicateID, "also claimed at %s since %s", r.claim, r.claimFirst.UTC().Format(time.RFC3339))
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// explain fills in why the member is in its state.
func (m *Member) explain(self string, now time.Time, e evidence, taken *record) {
	switch m.State {
	case StateSuspect, StateDead:
		m.Reason = e.why(now)
		if e.failing() {
			m.SuspectedBy = self
		}
	case StateLeft:
		m.Reason = "it said that it leaves"
	case StateAlive:
		if !m.Self && e.tcpOnly() {
			m.problem(ProblemTCPOnly, "answers over TCP but not over UDP since %s: is UDP blocked?",
				e.silent.UTC().Format(time.RFC3339))
		}
	}
	if taken != nil {
		m.problem(ProblemAddressTaken, "%s is %s now", m.GossipAddr, taken.id)
		if m.State == StateSuspect || m.State == StateDead {
			m.Reason = "its address belongs to node " + taken.id + " now"
		}
	}
}

func (m *Member) problem(kind ProblemKind, format string, args ...any) {
	m.Problems = append(m.Problems, Problem{kind, fmt.Sprintf(format, args...)})
}
