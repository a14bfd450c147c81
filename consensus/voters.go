package consensus

import (
	"cmp"
	"slices"

	"github.com/hashicorp/raft"
)

// maxVoters is how many servers vote at most: with five, two may fail.
const maxVoters = 5

type memberHealth int

const (
	deadMember     memberHealth = iota // has not answered for long, or is known to be down
	doubtfulMember                     // has not answered lately: nothing is decided about it
	healthyMember
)

// voterCandidate is a member in the eyes of [nextVoterChange].
type voterCandidate struct {
	id      raft.ServerID
	voter   bool
	leader  bool
	health  memberHealth
	current bool // has nearly the whole log
	stable  bool // has been healthy for a while
	leaving bool // being drained: no reason to give it a vote
	lastLog uint64
}

// voterChange gives one member a vote or takes one away.
type voterChange struct {
	id      raft.ServerID
	promote bool
}

// nextVoterChange returns the next step, if any, towards the best set of voters: an odd
// number of them, all healthy, at most maxVoters. It is pure, and what is proved of it,
// by its tests over random clusters, is that no step costs the quorum, that the steps end,
// and where.
//
// Two servers get one vote, not two: with two, the death of either would stop both.
func nextVoterChange(members []voterCandidate) (voterChange, bool) {
	c := census(members)
	switch {
	case c.healthy < quorumOf(c.voters):
		return voterChange{}, false // the change would not be committed
	case c.doubtful > 0:
		return voterChange{}, false // it is about to be healthy or dead
	}
	goal := min(maxVoters, c.healthy+len(c.candidates))
	if goal%2 == 0 {
		goal--
	}
	if c.voters%2 == 1 && c.voters <= maxVoters && tolerance(c.voters, c.healthy) >= tolerance(goal, goal) {
		return voterChange{}, false
	}
	// To take the vote of a dead one never makes a quorum bigger than the healthy ones.
	if len(c.dead) > 0 {
		return voterChange{id: c.dead[0]}, true
	}
	if c.voters < goal {
		return voterChange{id: c.candidates[0], promote: true}, true
	}
	if id, ok := worstVoter(members, ""); ok && c.voters > goal {
		return voterChange{id: id}, true
	}
	return voterChange{}, false
}

func quorumOf(voters int) int { return voters/2 + 1 }

// tolerance is how many more voters may fail.
func tolerance(voters, healthy int) int { return healthy - quorumOf(voters) }

// tally counts members by what matters for the next step.
type tally struct {
	voters, healthy, doubtful int // voters, and how many of them
	dead                      []raft.ServerID
	candidates                []raft.ServerID // for a vote, the best first
}

func census(members []voterCandidate) tally {
	var c tally
	var candidates []voterCandidate
	for _, m := range members {
		switch {
		case !m.voter:
			if m.health == healthyMember && m.current && m.stable && !m.leaving {
				candidates = append(candidates, m)
			}
			continue
		case m.health == healthyMember:
			c.healthy++
		case m.health == doubtfulMember:
			c.doubtful++
		default:
			c.dead = append(c.dead, m.id)
		}
		c.voters++
	}
	slices.Sort(c.dead)
	slices.SortFunc(candidates, func(a, b voterCandidate) int {
		return cmp.Or(-cmp.Compare(a.lastLog, b.lastLog), cmp.Compare(a.id, b.id))
	})
	for _, m := range candidates {
		c.candidates = append(c.candidates, m.id)
	}
	return c
}

func voters(members []voterCandidate) int { return census(members).voters }

// worstVoter returns the voter that can be spared the most; never the leader, nor the one
// to keep.
func worstVoter(members []voterCandidate, keep raft.ServerID) (raft.ServerID, bool) {
	return best(members, func(m voterCandidate) bool { return m.voter && !m.leader && m.id != keep },
		func(a, b voterCandidate) int {
			return cmp.Or(cmp.Compare(a.health, b.health), compareBool(b.leaving, a.leaving),
				cmp.Compare(a.lastLog, b.lastLog), cmp.Compare(b.id, a.id))
		})
}

// heirOf returns the voter that should lead next.
func heirOf(members []voterCandidate) (raft.ServerID, bool) {
	return best(members, func(m voterCandidate) bool { return m.voter && !m.leader && m.health == healthyMember }, compareHeirs)
}

// bestHeir returns the member without a vote that could lead if it had one.
func bestHeir(members []voterCandidate) (raft.ServerID, bool) {
	return best(members, func(m voterCandidate) bool { return !m.voter && m.health == healthyMember && m.current }, compareHeirs)
}

func compareHeirs(a, b voterCandidate) int {
	return cmp.Or(compareBool(a.leaving, b.leaving), -cmp.Compare(a.lastLog, b.lastLog), cmp.Compare(a.id, b.id))
}

func compareBool(a, b bool) int {
	if a == b {
		return 0
	}
	if b {
		return -1
	}
	return 1
}

// best returns the first by compare of those that fit.
func best(members []voterCandidate, fits func(voterCandidate) bool, compare func(a, b voterCandidate) int) (raft.ServerID, bool) {
	var fitting []voterCandidate
	for _, m := range members {
		if fits(m) {
			fitting = append(fitting, m)
		}
	}
	if len(fitting) == 0 {
		return "", false
	}
	return slices.MinFunc(fitting, compare).id, true
}
