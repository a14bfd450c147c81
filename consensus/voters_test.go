package consensus

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

var healths = []memberHealth{healthyMember, healthyMember, healthyMember, healthyMember, healthyMember, deadMember, deadMember, doubtfulMember}

// drawMembers draws a cluster whose leader is healthy.
func drawMembers(t *rapid.T) []voterCandidate {
	n := rapid.IntRange(1, 9).Draw(t, "members")
	members := make([]voterCandidate, n)
	for i := range members {
		members[i] = voterCandidate{
			id:      raft.ServerID(fmt.Sprintf("n%d", i)),
			voter:   rapid.Bool().Draw(t, "voter"),
			health:  rapid.SampledFrom(healths).Draw(t, "health"),
			current: rapid.Bool().Draw(t, "current"),
			stable:  rapid.Bool().Draw(t, "stable"),
			leaving: rapid.Bool().Draw(t, "leaving"),
			lastLog: uint64(rapid.IntRange(0, 3).Draw(t, "log")), //nolint:gosec // small
		}
	}
	m := &members[0]
	m.voter, m.leader, m.health, m.current, m.stable = true, true, healthyMember, true, true
	return members
}

// make one change of votes.
func change(members []voterCandidate, c voterChange) {
	for i := range members {
		if members[i].id == c.id {
			members[i].voter = c.promote
		}
	}
}

// No change costs a quorum that was there, makes a vote of a server that should have
// none, or takes the leader's. The changes end, and where they do there is an odd number
// of voters, no more than allowed, that could not stand more failures by other votes.
func TestVoterChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t)
		before := census(members)
		steps := 0
		for {
			c, ok := nextVoterChange(members)
			if !ok {
				break
			}
			if steps++; steps > 2*len(members) {
				t.Fatalf("still changing after %d steps", steps)
			}
			for _, m := range members {
				switch {
				case m.id != c.id:
				case m.voter == c.promote:
					t.Fatalf("step %d changes nothing: %+v", steps, c)
				case m.leader:
					t.Fatalf("step %d takes the leader's vote", steps)
				case c.promote && (m.health != healthyMember || !m.current || !m.stable || m.leaving):
					t.Fatalf("step %d gives %+v a vote", steps, m)
				}
			}
			change(members, c)
			if now := census(members); now.healthy < quorumOf(now.voters) {
				t.Fatalf("step %d costs the quorum: %d voters, %d healthy", steps, now.voters, now.healthy)
			}
		}
		after := census(members)
		if before.healthy < quorumOf(before.voters) || before.doubtful > 0 {
			if steps > 0 {
				t.Fatalf("%d changes without a quorum, or in doubt", steps)
			}
			return
		}
		goal := min(maxVoters, after.healthy+len(after.candidates))
		if goal%2 == 0 {
			goal--
		}
		if after.voters%2 == 0 || after.voters > maxVoters {
			t.Fatalf("ended with %d voters", after.voters)
		}
		if tolerance(after.voters, after.healthy) < tolerance(goal, goal) {
			t.Fatalf("ended with %d voters of which %d are healthy, where %d healthy ones are possible", after.voters, after.healthy, goal)
		}
	})
}

// The cases that people ask about.
func TestVotersOfClusters(t *testing.T) {
	const healthy, dead = healthyMember, deadMember
	type kind struct {
		voter  bool
		health memberHealth
	}
	v, s, d, ds := kind{true, healthy}, kind{false, healthy}, kind{true, dead}, kind{false, dead}
	for name, test := range map[string]struct {
		members []kind
		want    int // voters at the end
		steps   int
	}{
		"one":                                 {[]kind{v}, 1, 0},
		"two: one vote":                       {[]kind{v, s}, 1, 0},
		"three":                               {[]kind{v, s, s}, 3, 2},
		"four":                                {[]kind{v, v, v, s}, 3, 0},
		"five":                                {[]kind{v, v, v, s, s}, 5, 2},
		"six":                                 {[]kind{v, v, v, v, v, s}, 5, 0},
		"a dead one of three stays":           {[]kind{v, v, d}, 3, 0},
		"and is replaced if it can be":        {[]kind{v, v, d, s}, 3, 2},
		"a dead one of five stays":            {[]kind{v, v, v, v, d}, 5, 0},
		"two of five leave three":             {[]kind{v, v, v, d, d}, 3, 2},
		"two of five are replaced":            {[]kind{v, v, v, d, d, s, s}, 5, 4},
		"no quorum, no change":                {[]kind{v, d, d, s, s}, 3, 0},
		"a dead spare is no matter":           {[]kind{v, v, v, ds}, 3, 0},
		"two voters become one":               {[]kind{v, v}, 1, 1},
		"three of two voters and a candidate": {[]kind{v, v, s}, 3, 1},
		"seven voters become five":            {[]kind{v, v, v, v, v, v, v}, 5, 2},
	} {
		var members []voterCandidate
		for i, k := range test.members {
			members = append(members, voterCandidate{
				id: raft.ServerID(fmt.Sprintf("n%d", i)), voter: k.voter, leader: i == 0, health: k.health, current: true, stable: true,
			})
		}
		steps := 0
		for c, ok := nextVoterChange(members); ok && steps < 20; c, ok = nextVoterChange(members) {
			change(members, c)
			steps++
		}
		if got := voters(members); got != test.want || steps != test.steps {
			t.Errorf("%s: got %d voters after %d steps, want %d after %d", name, got, steps, test.want, test.steps)
		}
	}
}
