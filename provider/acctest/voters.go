package acctest

import (
	"context"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Voting waits until every node has a vote, without which the cluster does not outlive the
// first one.
func (c *Cluster) Voting(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond) // who votes is no part of the state: it can't be watched
	defer ticker.Stop()
	for {
		s, err := c.Client.Cluster(ctx)
		if err != nil {
			t.Fatal(err)
		}
		voters := 0
		for _, m := range s.Members {
			if m.Role == api.MemberVoter || m.Role == api.MemberLeader {
				voters++
			}
		}
		if voters == len(c.Nodes) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d nodes vote", voters, len(c.Nodes))
		}
	}
}
