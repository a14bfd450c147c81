package api

import (
	"slices"
	"strings"
)

// OnDisconnect says what becomes of an instance whose node is cut off from the leader.
type OnDisconnect string

// The ways to deal with a node that is cut off.
const (
	// DisconnectReplace: started elsewhere after the deadline; the old one goes on until
	// its node is back.
	DisconnectReplace OnDisconnect = "replace"
	// DisconnectKeep: goes on alone, and is never doubled.
	DisconnectKeep OnDisconnect = "keep"
	// DisconnectStop: its node stops it by itself, before the leader may start it
	// elsewhere: never two at a time.
	DisconnectStop OnDisconnect = "stop"
)

// OnDisconnects lists every way.
func OnDisconnects() []OnDisconnect {
	return []OnDisconnect{DisconnectReplace, DisconnectKeep, DisconnectStop}
}

// Strategy says which of the nodes that could take an instance does.
type Strategy string

// The strategies.
const (
	StrategySpread  Strategy = "spread"  // the emptiest
	StrategyBinpack Strategy = "binpack" // the fullest, so that others stay free
)

// SpreadBy says what the instances of a service or fleet are spread over.
type SpreadBy string

// What instances are spread over.
const (
	SpreadByNode   SpreadBy = "node"
	SpreadByZone   SpreadBy = "zone"
	SpreadByRegion SpreadBy = "region"
)

// PlacementRules says where instances may run, and where they run best. A nil one is the
// zero one: any node, spread over nodes.
type PlacementRules struct {
	Strategy Strategy `json:"strategy,omitempty"`  // default spread
	SpreadBy SpreadBy `json:"spread_by,omitempty"` // default node
	// Constraints must all hold of a node.
	Constraints []Constraint `json:"constraints,omitempty"`
	// Affinities make nodes better, or worse.
	Affinities []Affinity `json:"affinities,omitempty"`
	// AntiAffinity names services whose instances it never shares a node with. Its own
	// name means at most one of its instances on a node.
	AntiAffinity []string `json:"anti_affinity,omitempty"`
}

// Affinity prefers the nodes of which Match holds, or avoids them.
type Affinity struct {
	Match  Constraint `json:"match"`
	Weight int        `json:"weight"` // -100 (avoid) to 100 (prefer), not 0
}

// IsZero reports whether the rules say nothing but the defaults.
func (p *PlacementRules) IsZero() bool {
	return p.strategy() == StrategySpread && p.spreadBy() == SpreadByNode && (p == nil || len(p.Constraints) == 0 &&
		len(p.Affinities) == 0 && len(p.AntiAffinity) == 0)
}

// Equal reports whether two sets of rules mean the same.
func (p *PlacementRules) Equal(o *PlacementRules) bool {
	if p == nil || o == nil {
		return p.IsZero() && o.IsZero()
	}
	return p.strategy() == o.strategy() && p.spreadBy() == o.spreadBy() && slices.Equal(p.Constraints, o.Constraints) &&
		slices.Equal(p.Affinities, o.Affinities) && slices.Equal(p.AntiAffinity, o.AntiAffinity)
}

// Clone returns a deep copy; nil for nil.
func (p *PlacementRules) Clone() *PlacementRules {
	if p == nil {
		return nil
	}
	c := *p
	c.Constraints = slices.Clone(p.Constraints)
	c.Affinities = slices.Clone(p.Affinities)
	c.AntiAffinity = slices.Clone(p.AntiAffinity)
	return &c
}

func (p *PlacementRules) strategy() Strategy {
	if p == nil || p.Strategy == "" {
		return StrategySpread
	}
	return p.Strategy
}

func (p *PlacementRules) spreadBy() SpreadBy {
	if p == nil || p.SpreadBy == "" {
		return SpreadByNode
	}
	return p.SpreadBy
}

// WithDefaults returns the rules, never nil, with Strategy and SpreadBy filled in.
func (p *PlacementRules) WithDefaults() *PlacementRules {
	c := PlacementRules{}
	if p != nil {
		c = *p
	}
	c.Strategy, c.SpreadBy = p.strategy(), p.spreadBy()
	return &c
}

// maxRules bounds each list of a PlacementRules: every one is tried on every node.
const maxRules = 32

func (p *PlacementRules) check(c *fieldChecks) {
	if p == nil {
		return
	}
	strategies := []Strategy{StrategySpread, StrategyBinpack}
	check(c, slices.Contains(strategies, p.strategy()), "placement.strategy", p.Strategy, oneOf[Strategy](strategies))
	over := []SpreadBy{SpreadByNode, SpreadByZone, SpreadByRegion}
	check(c, slices.Contains(over, p.spreadBy()), "placement.spread_by", p.SpreadBy, oneOf[SpreadBy](over))
	check(c, len(p.Constraints) <= maxRules, "placement.constraints", len(p.Constraints), "at most 32")
	for _, k := range p.Constraints {
		check(c, k.valid(), "placement.constraints", k, constraintSyntax)
	}
	check(c, len(p.Affinities) <= maxRules, "placement.affinities", len(p.Affinities), "at most 32")
	for _, a := range p.Affinities {
		check(c, a.Match.valid(), "placement.affinities.match", a.Match, constraintSyntax)
		check(c, -100 <= a.Weight && a.Weight <= 100 && a.Weight != 0, "placement.affinities.weight", a.Weight, "-100 to 100, but not 0")
	}
	check(c, len(p.AntiAffinity) <= maxRules, "placement.anti_affinity", len(p.AntiAffinity), "at most 32")
	for _, s := range p.AntiAffinity {
		c.name("placement.anti_affinity", s)
	}
}

// Constraint is a condition on a node, in its canonical text form:
//
//	zone = eu-1          the attribute is one of the values, joined by |
//	region != us|asia    it is none of them
//	label.gpu            it is there
//	!label.old           it is not
//
// The attributes are node (its name or id), region, zone, provider, version and label.NAME.
type Constraint string

const constraintSyntax = `a condition such as "zone = eu-1|eu-2", "provider != acme", "label.gpu" or "!label.old"`

// ParseConstraint reads a constraint and returns its canonical form. One that can't be
// read is a *FieldError.
func ParseConstraint(s string) (Constraint, error) {
	p, ok := parseConstraint(s)
	if !ok {
		return "", &FieldError{Field: "constraint", Got: s, Want: constraintSyntax}
	}
	return Constraint(p.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It brings what it can read into the
// canonical form and leaves the rest for Validate to report.
func (k *Constraint) UnmarshalText(b []byte) error {
	*k = Constraint(b)
	if p, ok := parseConstraint(string(b)); ok {
		*k = Constraint(p.String())
	}
	return nil
}

func (k Constraint) valid() bool { _, ok := parseConstraint(string(k)); return ok }

// Compile returns a function that tells whether the constraint holds of a node. It is
// false of every node if the constraint is not valid.
func (k Constraint) Compile() func(*Node) bool {
	p, ok := parseConstraint(string(k))
	if !ok {
		return func(*Node) bool { return false }
	}
	return p.holds
}

// condition is a constraint taken apart. Without values it asks whether the attribute is
// there.
type condition struct {
	attribute string
	values    []string
	negated   bool
}

func (p condition) String() string {
	switch {
	case len(p.values) == 0 && p.negated:
		return "!" + p.attribute
	case len(p.values) == 0:
		return p.attribute
	case p.negated:
		return p.attribute + " != " + strings.Join(p.values, "|")
	default:
		return p.attribute + " = " + strings.Join(p.values, "|")
	}
}

func parseConstraint(s string) (condition, bool) {
	var p condition
	left, right, hasValue := strings.Cut(strings.TrimSpace(s), "=")
	left = strings.TrimSpace(left)
	if hasValue {
		left, p.negated = strings.CutSuffix(left, "!")
		for v := range strings.SplitSeq(right, "|") {
			v = strings.TrimSpace(v)
			if v == "" || strings.ContainsAny(v, "=!\x00\n") || len(v) > 256 {
				return p, false
			}
			p.values = append(p.values, v)
		}
	} else {
		left, p.negated = strings.CutPrefix(left, "!")
	}
	p.attribute = strings.TrimSpace(left)
	label, isLabel := strings.CutPrefix(p.attribute, "label.")
	if isLabel {
		return p, label != "" && len(label) <= 63 && !strings.ContainsAny(label, " =!|\x00\n\t")
	}
	return p, slices.Contains([]string{"node", "region", "zone", "provider", "version"}, p.attribute)
}

func (p condition) holds(n *Node) bool {
	value, there := p.value(n)
	if len(p.values) == 0 {
		return there != p.negated
	}
	found := there && slices.Contains(p.values, value)
	if p.attribute == "node" {
		found = found || slices.Contains(p.values, n.ID)
	}
	return found != p.negated
}

func (p condition) value(n *Node) (value string, there bool) {
	switch p.attribute {
	case "node":
		value = n.Name
	case "region":
		value = n.Region
	case "zone":
		value = n.Zone
	case "provider":
		value = n.Provider
	case "version":
		value = n.Version
	default:
		value, there = n.Labels[strings.TrimPrefix(p.attribute, "label.")]
		return value, there
	}
	return value, value != ""
}
