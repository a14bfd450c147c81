package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", Short: "List the servers of the cluster",
		Long: `Lists the servers of the cluster: their part in it, how they do and why, how many
changes they are behind, how many instances are placed on them.`,
		Example: "  ten nodes\n  ten nodes --json | jq -r '.[] | select(.status == \"down\") | .name'",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var status *api.ClusterStatus
			err := a.call(cmd.Context(), "listing nodes", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				status, err = c.Cluster(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, status.Members)
			}
			a.noteStale(status)
			return a.nodeTable(status.Members).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
}

// noteStale says when what is shown may be old.
func (a *app) noteStale(s *api.ClusterStatus) {
	switch {
	case s.Stale:
		a.note("%s has lost the leader: what follows may be old, and nothing can be changed", cleanText(nameOf(s.Members, s.Node)))
	case s.Leader == "":
		a.note("there is no leader at the moment: nothing can be changed")
	}
}

// nameOf returns the name of a node, its id if it is not known.
func nameOf(members []api.Member, id string) string {
	for i := range members {
		if members[i].ID == id {
			return members[i].Name
		}
	}
	return id
}

func (a *app) nodeTable(members []api.Member) *table {
	t := &table{columns: []column{
		{title: "NODE", min: 10},
		{title: "ROLE", drop: 3},
		{title: "STATUS", color: nodeStyle},
		{title: "INSTANCES", right: true, drop: 2},
		{title: "LAG", right: true, drop: 6},
		{title: "VERSION", min: 8, drop: 7, optional: true},
		{title: "ZONE", min: 8, drop: 5, optional: true},
		{title: "ADDRESS", min: 15, drop: 4, optional: true},
		{title: "WHY", min: 40, optional: true},
	}}
	for i := range members {
		m := &members[i]
		lag := "?"
		if m.Index > 0 {
			lag = strconv.FormatUint(m.Lag, 10)
		}
		role := string(m.Role)
		if m.Role == api.MemberNone {
			role = "-"
		}
		status, why := a.nodeStatus(m)
		t.rows = append(t.rows, []string{
			m.Name, role, status, strconv.Itoa(m.Instances), lag, m.Version, zoneOf(&m.Node), m.PeerAddress, why,
		})
	}
	return t
}

// nodeStatus sums up in a word how a node does, and says why if it is not up.
func (a *app) nodeStatus(m *api.Member) (word, why string) {
	suspected := m.Gossip == "suspect" || m.Gossip == "dead"
	switch {
	case m.Status == api.NodeDown:
		why = m.StatusReason
		if left := m.Deadline.Sub(a.now()); left > 0 && m.Instances > 0 {
			why = join("; ", why, "its instances are replaced in "+ago(left))
		}
		return "down", why
	case m.Status == api.NodeLeft:
		return "left", join("; ", m.StatusReason, "expected back")
	case m.Eligibility != api.EligibilityEligible && m.Eligibility != "":
		word = string(m.Eligibility)
	case suspected:
		word = "suspected"
	default:
		word = "up"
	}
	if suspected {
		why = join(": ", "gossip says "+m.Gossip, m.GossipReason)
	} else {
		why = m.GossipReason
	}
	return word, why
}

// join joins the texts that are not empty.
func join(by string, texts ...string) string {
	out := ""
	for _, s := range texts {
		switch {
		case s == "":
		case out == "":
			out = s
		default:
			out += by + s
		}
	}
	return out
}

func zoneOf(n *api.Node) string { return join("/", n.Region, n.Zone) }

func nodeStyle(word string) string {
	switch word {
	case "up":
		return styleGreen
	case "down":
		return styleRed
	case "suspected", "draining", "left":
		return styleYellow
	default:
		return styleDim
	}
}

func (a *app) nodeCommand() *cobra.Command {
	return group(&cobra.Command{Use: "node", Short: "Drain, cordon, remove or promote a server of the cluster"},
		a.nodeDrainCommand(),
		a.eligibilityCommand("cordon", "Give a node no new instances", "Gives a node no new instances. Those that it has stay.",
			api.EligibilityCordoned, "%s gets no new instances"),
		a.eligibilityCommand("uncordon", "Let a node have instances again", "Lets a node that was cordoned or drained have instances again. None move back for that alone.",
			api.EligibilityEligible, "%s gets instances again"),
		a.nodePromoteCommand(), a.nodeRemoveCommand())
}

func (a *app) eligibilityCommand(use, short, long string, e api.Eligibility, said string) *cobra.Command {
	return &cobra.Command{
		Use: use + " NODE", Short: short, Long: long,
		Example:           "  ten node " + use + " n2",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.setEligibility(cmd.Context(), args[0], e)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(n)
			default:
				return a.printf(said+"\n", cleanText(n.Name))
			}
		},
	}
}

func (a *app) setEligibility(ctx context.Context, node string, e api.Eligibility) (n *api.Node, err error) {
	err = a.call(ctx, "changing "+node, answerTime, func(ctx context.Context, c *client.Client) (err error) {
		n, err = c.SetEligibility(ctx, node, e, nil)
		return err
	})
	return n, lookUp(err, seeNodes)
}

// What lists the names of things.
const (
	seeNodes      = "'ten nodes' lists the nodes"
	seeFleets     = "'ten fleet ls' lists the fleets, 'ten service list' the services"
	seeRoutes     = "'ten routes ls' lists the routes"
	seeJoinTokens = "'ten join-token ls' lists the join tokens" //nolint:gosec // no credential
)

// lookUp adds to the error about a name that does not exist what lists those that do.
func lookUp(err error, hint string) error {
	if api.CodeOf(err) == api.CodeNotFound {
		return &hintError{err: err, hint: hint}
	}
	return err
}

func (a *app) nodePromoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "promote NODE", Short: "Give a node a vote",
		Long: `Gives a node a vote in the cluster. The number of votes stays odd: another node may
lose its own. Nodes that are well get a vote by themselves where one is lacking.`,
		Example:           "  ten node promote n4",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			var m *api.Member
			err := a.call(cmd.Context(), "promoting "+args[0], answerTime, func(ctx context.Context, c *client.Client) (err error) {
				m, err = c.Promote(ctx, args[0])
				return err
			})
			switch {
			case err != nil:
				return lookUp(err, seeNodes)
			case a.json:
				return a.printJSON(m)
			default:
				return a.printf("%s has a vote\n", cleanText(m.Name))
			}
		},
	}
}

func (a *app) nodeRemoveCommand() *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the cluster for good",
		Long: `Takes a node out of the cluster for good. To come back it must join with an empty
data directory. A node that has instances is drained first; with --force it is removed
all the same: its instances start elsewhere, without what they had stored on it.`,
		Example:           "  ten node drain n3 && ten node remove n3\n  ten node remove n3 --force   # it will never come back",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			question := fmt.Sprintf("remove node %s from the cluster for good?", args[0])
			if force {
				question = fmt.Sprintf("remove node %s for good, with all that its instances stored on it?", args[0])
			}
			if err := a.confirm(cmd, question, yes); err != nil {
				return err
			}
			err := a.call(cmd.Context(), "removing "+args[0], waitTime, func(ctx context.Context, c *client.Client) error {
				return c.RemoveNode(ctx, args[0], force)
			})
			if err != nil || a.json {
				return lookUp(err, seeNodes)
			}
			return a.printf("%s is removed\n", cleanText(args[0]))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "although it is up and has instances")
	return cmd
}
