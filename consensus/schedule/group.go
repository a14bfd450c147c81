package schedule

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// group is what is spread together: a fleet, or all other instances of a service.
type group struct {
	service *api.Service
	fleet   string
	rules   *api.PlacementRules
	need    amounts
	load    load
	hash    uint64
	total   int  // its instances, wherever they are
	alone   bool // stands for groups of one each, with nothing to spread; see [planner.pool]

	// What follows is only there if the plan has work for the group.
	class *class
	here  counts // its instances, by node
	// near counts, in the order of its rules, the instances to keep away from; shy
	// those that keep away from it.
	near []counts
	shy  counts
	// counted are all counts that an instance of the group is part of.
	counted []counts
}

type groupKey struct{ service, fleet string }

// groupOf returns the group of an instance; nil for one without a service.
func (p *planner) groupOf(i *api.Instance, last *group) *group {
	if last != nil && last.service.Name == i.Service && last.fleet == i.Fleet {
		return last
	}
	key := groupKey{i.Service, i.Fleet}
	g, ok := p.groups[key]
	if !ok {
		g = p.newGroup(key)
		p.groups[key] = g
	}
	return g
}

func (p *planner) newGroup(key groupKey) *group {
	s, ok := p.view.Service(key.service)
	if !ok {
		return nil
	}
	rules := s.Placement
	if key.fleet != "" {
		if f, ok := p.view.Fleet(api.Ref{Service: key.service, ID: key.fleet}); ok && f.Placement != nil {
			rules = f.Placement
		}
	}
	g := &group{
		service: s,
		fleet:   key.fleet,
		rules:   rules.WithDefaults(),
		need:    needs(s),
		hash:    hash(key.service, key.fleet),
	}
	g.load = load{mebibytes: (g.need.memory + 1<<20 - 1) >> 20, shares: g.need.cpu}
	if g.load.mebibytes == 0 {
		g.load.mebibytes = nominalMebibytes
	}
	if g.load.shares == 0 {
		g.load.shares = nominalShares
	}
	for _, name := range g.rules.AntiAffinity {
		p.named[name] = append(p.named[name], g)
	}
	return g
}

// needs returns what an instance of a service may use at most.
func needs(s *api.Service) amounts {
	a := amounts{memory: int64(s.MemoryLimit), cpu: int64(s.CPUShares), storage: int64(s.StorageQuota)}
	if s.Isolation == api.IsolationFirecracker || s.Isolation == api.IsolationQEMU {
		a.memory = int64(s.Memory)
	}
	return a
}

// needFor returns what one instance needs: held down, it only keeps its data.
func (g *group) needFor(held bool) amounts {
	if held {
		return amounts{storage: g.need.storage}
	}
	return g.need
}

func (b *batch) need() amounts { return b.group.needFor(b.held) }

// name returns what the group is called: web, or web:blue for a fleet.
func (g *group) name() string {
	if g.fleet == "" {
		return g.service.Name
	}
	return g.service.Name + ":" + g.fleet
}

// level returns what the group is spread over. To pack nodes and to spread over them
// exclude each other, and who asks for the one does not get the default of the other.
func (g *group) level() int {
	switch {
	case g.alone:
		return levelNone
	case g.rules.SpreadBy == api.SpreadByZone:
		return levelZone
	case g.rules.SpreadBy == api.SpreadByRegion:
		return levelRegion
	case g.packs():
		return levelNone
	default:
		return levelNode
	}
}

func (g *group) packs() bool { return g.rules.Strategy == api.StrategyBinpack }

// count adds d to all counts of the group's instances on a node.
func (g *group) count(n, d int32) {
	for _, c := range g.counted {
		c[n] += d
	}
}

// shape is what makes groups of one interchangeable.
type shape struct {
	batchKey
	class    *class
	need     amounts
	strategy api.Strategy
	stop     bool
	persist  bool
}

// pool makes one batch of the batches of groups that have a single instance, as far as
// they ask the same: such an instance is spread over nothing, so that the nodes need
// not be looked at for each of them. Those that keep away from others, or others from
// them, are left alone.
func (p *planner) pool() {
	pools := map[shape]*batch{}
	for key, b := range p.batches {
		g := b.group
		if g.total > 1 || len(g.rules.AntiAffinity) > 0 || len(p.named[g.service.Name]) > 0 {
			continue
		}
		s := shape{
			batchKey: key, class: p.classOf(g), need: g.need, strategy: g.rules.Strategy,
			stop: g.service.Disconnect() == api.DisconnectStop, persist: g.service.Persist(),
		}
		s.group = nil
		pooled, ok := pools[s]
		if !ok {
			pooled = &batch{batchKey: key}
			pools[s] = pooled
		}
		if compareGroups(g, pooled.group) < 0 {
			pooled.group = g
		}
		pooled.items = append(pooled.items, b.items...)
		delete(p.batches, key)
	}
	for _, b := range pools {
		g := *b.group
		g.alone = true
		b.group = &g
		p.batches[b.batchKey] = b
	}
}

func compareGroups(a, b *group) int {
	return cmp.Or(strings.Compare(a.service.Name, b.service.Name), strings.Compare(a.fleet, b.fleet))
}

// census counts who is where, for the groups that have work.
func (p *planner) census() {
	scan := map[string]bool{}
	for _, b := range p.batches {
		g := b.group
		if g.class != nil {
			continue
		}
		g.class = p.classOf(g)
		if g.alone {
			continue
		}
		g.here = counts{}
		scan[g.service.Name] = true
		g.shy = track(p.averse, g.service.Name)
		for _, other := range p.named[g.service.Name] {
			scan[other.service.Name] = true
		}
		for _, name := range g.rules.AntiAffinity {
			g.near = append(g.near, track(p.present, name))
			scan[name] = true
		}
	}
	for _, g := range p.groups {
		if g != nil && scan[g.service.Name] {
			g.counted = p.countsOf(g)
		}
	}
	for name := range scan {
		var g *group
		for i := range p.view.Instances(name) {
			if g = p.groupOf(i, g); g == nil || len(g.counted) == 0 {
				continue
			}
			if f, at := p.fateOf(g.service, i); !f.lost() {
				g.count(at, 1)
			}
			if i.Previous != nil && i.Previous.Node != i.Node {
				if n, ok := p.byID[i.Previous.Node]; ok {
					g.count(n, 1)
				}
			}
		}
	}
}

func track(all map[string]counts, name string) counts {
	c, ok := all[name]
	if !ok {
		c = counts{}
		all[name] = c
	}
	return c
}

func (p *planner) countsOf(g *group) []counts {
	var all []counts
	if g.here != nil {
		all = append(all, g.here)
	}
	if c, ok := p.present[g.service.Name]; ok {
		all = append(all, c)
	}
	for _, name := range g.rules.AntiAffinity {
		if c, ok := p.averse[name]; ok {
			all = append(all, c)
		}
	}
	return all
}

// class is what groups have in common that ask the same of a node, apart from what is
// on it already.
type class struct {
	holds    []func(*api.Node) bool // the constraints
	reasons  []reason               // by node: why not, zero if it could
	open     []int32                // the nodes that could
	affinity []int32                // by node: the weights of all affinities that match
}

func (p *planner) classOf(g *group) *class {
	key := classKey(g)
	if c, ok := p.classes[key]; ok {
		return c
	}
	c := &class{
		reasons:  make([]reason, len(p.nodes)),
		affinity: make([]int32, len(p.nodes)),
	}
	p.classes[key] = c
	for _, k := range g.rules.Constraints {
		c.holds = append(c.holds, k.Compile())
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		c.reasons[i] = n.shut
		if n.shut.kind == none {
			c.reasons[i] = unsuited(n.Node, g.service.Isolation, c.holds)
		}
		if c.reasons[i].kind == none {
			c.open = append(c.open, int32(i))
		}
	}
	for _, a := range g.rules.Affinities {
		match := a.Match.Compile()
		for _, i := range c.open {
			if match(p.nodes[i].Node) {
				c.affinity[i] += int32(a.Weight)
			}
		}
	}
	return c
}

func classKey(g *group) string {
	var b strings.Builder
	b.WriteString(string(g.service.Isolation))
	for _, k := range g.rules.Constraints {
		b.WriteByte('\n')
		b.WriteString(string(k))
	}
	for _, a := range g.rules.Affinities {
		b.WriteByte('\n')
		b.WriteByte(0)
		b.WriteString(strconv.Itoa(a.Weight))
		b.WriteByte(' ')
		b.WriteString(string(a.Match))
	}
	return b.String()
}
