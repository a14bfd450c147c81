package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) clusterCommand() *cobra.Command {
	snapshot := group(&cobra.Command{Use: "snapshot", Short: "Save, restore or look into a copy of the whole state"},
		a.snapshotSaveCommand(), a.snapshotRestoreCommand(), a.snapshotInspectCommand())
	return alone(&cobra.Command{
		Use: "cluster", Short: "Tell how the cluster does; save, restore and recover its state",
		Long:    "Tells how the cluster does: who leads it, who is there, what it could still lose.",
		Example: "  ten cluster\n  ten cluster snapshot save backup.snapshot",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var status *api.ClusterStatus
			err := a.call(cmd.Context(), "asking for the cluster", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				status, err = c.Cluster(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(status)
			}
			a.noteStale(status)
			return a.printCluster(status)
		},
	}, snapshot, a.recoverCommand(), a.caCommand())
}

func (a *app) printCluster(s *api.ClusterStatus) error {
	up, voters, voting, instances := 0, 0, 0, 0
	for i := range s.Members {
		m := &s.Members[i]
		vote := m.Role == api.MemberLeader || m.Role == api.MemberVoter
		if vote {
			voters++
		}
		if m.Reachable() {
			up++
			if vote {
				voting++
			}
		}
		instances += m.Instances
	}
	leader := "none"
	if s.Leader != "" {
		leader = nameOf(s.Members, s.Leader)
	}
	lines := [][2]string{
		{"id", s.ID},
		{"leader", leader},
		{"nodes", fmt.Sprintf("%d of %d are up, %d of %d that vote", up, len(s.Members), voting, voters)},
		{"spare", spare(voters, voting)},
		{"instances", strconv.Itoa(instances)},
		{"index", strconv.FormatUint(s.Index, 10)},
	}
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if err := a.printf("%-10s %s\n", l[0], cleanText(l[1])); err != nil {
			return err
		}
	}
	return nil
}

// spare tells how many more voting nodes may fail.
func spare(voters, up int) string {
	switch left := up - (voters/2 + 1); {
	case voters == 0:
		return ""
	case left < 0:
		return fmt.Sprintf("most voting nodes are missing: nothing can be changed until %d more are back", -left)
	case left == 0:
		return "no voting node more may fail"
	case left == 1:
		return "one voting node more may fail"
	default:
		return fmt.Sprintf("%d voting nodes more may fail", left)
	}
}

func (a *app) recoverCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "recover", Short: "Make the stopped server on this machine a cluster of its own, when most others are lost",
		Long: `For when most of the voting servers are lost for good, so that the rest can't elect a
leader. Run it on ONE server that is left, the one that knows most, while no 'ten serve'
runs there. It shows what it would do and asks first; it copies what it changes. Others
that are left join anew, with empty data directories: if one of them were started with
its old one, there would be two clusters.`,
		Example: "  ten cluster recover --data-dir /var/lib/tenement",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.localDirectory(cmd, a.hooks.Recover != nil)
			if err != nil {
				return err
			}
			preview, err := a.hooks.Recover(dir, true)
			if err != nil {
				return localError(err)
			}
			if !a.json {
				if err := a.printRecovery(preview); err != nil {
					return err
				}
			}
			if err := a.confirm(cmd, "make this server a cluster of its own?", yes); err != nil {
				return err
			}
			done, err := a.hooks.Recover(dir, false)
			switch {
			case err != nil:
				return localError(err)
			case a.json:
				return a.printJSON(done)
			}
			return a.printf("done; what was there before is in %s\nnext: start 'ten serve' here, then let the others join with empty data directories\n", cleanText(done.Backup))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) printRecovery(r *recovery) error {
	if err := a.printf("node %s of cluster %s would be its only member.\nIt has everything up to index %d; what only the lost servers had is lost.\n\n",
		cleanText(r.Node), cleanText(r.ClusterID), r.Index); err != nil {
		return err
	}
	t := &table{columns: []column{{title: "MEMBER", min: 10}, {title: "ADDRESS", min: 10}, {title: "BEFORE"}, {title: "AFTER"}}}
	for _, m := range r.Members {
		t.rows = append(t.rows, []string{m.ID, m.Address, votes(m.Voter), m.After})
	}
	return t.write(a.stdout, a.tableWidth(), a.colors())
}

func votes(voter bool) string {
	if voter {
		return "votes"
	}
	return "no vote"
}
