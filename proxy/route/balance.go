package route

import (
	"math/bits"
	"sort"
)

// window is the number of consecutive choices over which every backend gets its share.
const window = 100

// stride spreads the lanes of one round: coprime to window and near its golden
// section, so that neighbouring lanes are far apart in time.
const stride = 61

// balancer spreads choices over weighted groups so that of ANY 100 consecutive
// choices each target gets its exact share, give or take one, and in the long run its
// share exactly. It is immutable; DESIGN.md has the proof.
//
// The groups lie one after the other on a line of 100 × total positions, each as long
// as 100 × its weight. The line is cut into 100 lanes of total positions. One round of
// 100 choices visits every lane once, all at the same offset; the next round moves the
// offset by step, up and down the lane for ever.
type balancer struct {
	version uint64
	groups  []*group
	sums    []uint64 // sums[i] is the weight of groups[0..i]
	total   uint64
	step    uint64
}

func newBalancer(version uint64, groups []*group, weights []uint64) *balancer {
	b := &balancer{version: version, groups: groups, sums: make([]uint64, len(weights)), step: 1}
	var div uint64
	for _, w := range weights {
		div = gcd(div, w)
	}
	for i, w := range weights {
		b.total += w / div
		b.sums[i] = b.total
	}
	if b.total > 0 {
		b.step = longestStep(b.sums, b.total)
	}
	return b
}

// longestStep returns the largest move of the offset that keeps the ±1: no larger than
// the part by which any target's share differs from a whole number of lanes, and
// coprime to the period so that every offset has its turn.
func longestStep(sums []uint64, total uint64) uint64 {
	limit := total
	prev := uint64(0)
	for _, s := range sums {
		if part := window * (s - prev) % total; part != 0 {
			limit = min(limit, part, total-part)
		}
		prev = s
	}
	for step := limit; step > 1; step-- {
		if gcd(step, 2*total) == 1 {
			return step
		}
	}
	return 1
}

// at returns the choice number n. The balancer must not be empty.
func (b *balancer) at(n uint64) *group {
	if len(b.groups) == 1 {
		return b.groups[0]
	}
	lane := n * stride % window
	period := 2 * b.total
	hi, lo := bits.Mul64(n/window%period, b.step)
	_, offset := bits.Div64(hi, lo, period)
	if offset >= b.total {
		offset = period - 1 - offset
	}
	at := (lane*b.total + offset) / window
	return b.groups[sort.Search(len(b.sums), func(i int) bool { return b.sums[i] > at })]
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
