package consensus

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// ApplyForwarded is the leader's side of [Config.Forward]: it commits the commands that
// the node named from, whose certificate has been checked, has forwarded. They came
// together and share a write to the disk.
func (n *Node) ApplyForwarded(ctx context.Context, from string, batch []Forwarded) []ForwardResult {
	a := arrivals{n: n, ctx: ctx, from: from, term: n.leadsIn(), results: make([]ForwardResult, len(batch))}
	for i := range batch {
		if err := a.take(i, &batch[i]); err != nil {
			a.settle(i, state.Result{}, err)
		}
	}
	a.flush()
	a.confirm()
	for _, p := range a.proposed {
		res, err := n.outcome(ctx, p.proposal)
		a.settle(p.at, res, err)
	}
	return a.results
}

// arrivals is a batch of forwarded commands at work.
type arrivals struct {
	n       *Node
	ctx     context.Context //nolint:containedctx // of the call that the batch came with
	from    string
	term    uint64 // in which this node leads, or 0
	results []ForwardResult

	proposed []arrival
	added    int // of proposed, to the node's batch
	idle     []previewed
}

// arrival is a command that is to be written, and its place in the batch.
type arrival struct {
	proposal
	at int
}

// previewed is what a command results in that changes nothing.
type previewed struct {
	res state.Result
	at  int
}

// take checks a command and puts it where it belongs, as [Node.propose] does.
func (a *arrivals) take(at int, f *Forwarded) error {
	if !a.n.IsLeader() {
		return errNotLeader()
	}
	c, err := decodeCommand(f.Command)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "read forwarded command: %w", err)
	}
	if err := a.n.authorize(a.from, f.Actor, c); err != nil {
		return err
	}
	if a.term != 0 {
		if res, changes := a.n.store.Preview(c); !changes {
			a.idle = append(a.idle, previewed{res, at})
			return nil
		}
	}
	if err := a.n.allows(c); err != nil {
		return err
	}
	p, err := a.n.newProposal(c)
	if err != nil {
		return err
	}
	if !a.n.trySlot() {
		a.flush() // who waits for a slot must not hold any that are not at work
		if err := a.n.takeSlot(a.ctx); err != nil {
			return err
		}
	}
	a.proposed = append(a.proposed, arrival{p, at})
	return nil
}

// flush has what was taken written.
func (a *arrivals) flush() {
	some := make([]proposal, 0, len(a.proposed)-a.added)
	for _, p := range a.proposed[a.added:] {
		some = append(some, p.proposal)
	}
	a.added = len(a.proposed)
	a.n.batch.add(some...)
}

// confirm answers what would change nothing, if this node has led until after it looked.
func (a *arrivals) confirm() {
	if len(a.idle) == 0 {
		return
	}
	err := a.n.stillLeads(a.ctx, a.term)
	for _, p := range a.idle {
		if err != nil {
			a.settle(p.at, state.Result{}, err)
			continue
		}
		a.settle(p.at, p.res, p.res.Err)
	}
}

func (a *arrivals) settle(at int, res state.Result, err error) {
	if err != nil && mayHaveHappened(err) {
		err = api.Errorf(api.CodeTimeout, "%w: the write may have happened", err)
	}
	a.results[at] = encodeResult(res, err)
}

// authorize decides whether a node may forward a command: what it says of itself it may
// say, what only a leader decides nobody may forward, the rest is for Config.Authorize.
func (n *Node) authorize(from string, actor Actor, c *state.Command) error {
	forbidden := func(what string) error {
		return api.Errorf(api.CodeForbidden, "authorize forwarded command: node %s may not %s", from, what)
	}
	switch {
	case c.Report != nil:
		if c.Report.Node != from {
			return forbidden("report for node " + c.Report.Node)
		}
		return nil
	case c.DescribeNode != nil:
		if c.DescribeNode.Node.ID != from {
			return forbidden("describe node " + c.DescribeNode.Node.ID)
		}
		return nil
	case c.SyncFile != nil && c.SyncFile.Node != from:
		return forbidden("declare the file of another node")
	case c.InitCluster != nil, c.Place != nil, c.EndMove != nil, c.NodeStatus != nil, c.PutNode != nil:
		return forbidden("decide what the leader decides")
	}
	return n.authorizeActor(from, actor, c)
}

// AuthorizeActor decides, on the leader, whether a node may have something done on behalf
// of an actor that is no command, as it does for the commands of users.
func (n *Node) AuthorizeActor(from string, actor Actor) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	return n.authorizeActor(from, actor, nil)
}

func (n *Node) authorizeActor(from string, actor Actor, c *state.Command) error {
	switch {
	case actor.Node != "" && actor.Node != from:
		return api.Errorf(api.CodeForbidden, "authorize actor: node %s may not act for node %s", from, actor.Node)
	case n.cfg.Authorize == nil:
		return api.Errorf(api.CodeForbidden, "authorize actor: node %s may not forward what users want here", from)
	}
	return n.cfg.Authorize(actor, c)
}
