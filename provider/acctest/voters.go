package acctest

import (
	"context"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// Voting waits until every node has a vote, without which the cluster does not outlive the
// first one.
func (c *Cluster) Voting(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	voters := 0
	if !until(ctx, func() bool {
		s, err := c.Client.Cluster(ctx)
		if err != nil {
			t.Fatal(err)
		}
		voters = voting(s)
		return voters == c.Size
	}) {
		t.Fatalf("%d of %d nodes vote", voters, c.Size)
	}
}

func voting(s *api.ClusterStatus) (voters int) {
	for _, m := range s.Members {
		if m.Role == api.MemberVoter || m.Role == api.MemberLeader {
			voters++
		}
	}
	return voters
}

// Kills is how often the leader was killed; 0 unless the cluster is Mortal.
func (c *Cluster) Kills() int {
	if c.mortals == nil {
		return 0
	}
	c.mortals.mu.Lock()
	defer c.mortals.mu.Unlock()
	return c.mortals.kills
}
