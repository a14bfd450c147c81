package route

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func balancerOf(weights []uint64) *balancer {
	groups := make([]*group, len(weights))
	for i := range groups {
		groups[i] = &group{members: []*Target{{id: fmt.Sprint(i)}}}
	}
	return newBalancer(1, groups, weights)
}

// checkWindow fails unless every target's part of the 100 choices from start on is its
// share, give or take one.
func checkWindow(t rapid.TB, b *balancer, weights []uint64, start uint64) {
	t.Helper()
	var sum uint64
	for _, w := range weights {
		sum += w
	}
	got := make(map[*group]int)
	for n := start; n < start+window; n++ {
		got[b.at(n)]++
	}
	for i, w := range weights {
		share := window * float64(w) / float64(sum)
		if d := math.Abs(float64(got[b.groups[i]]) - share); d > 1+1e-9 {
			t.Fatalf("weights %v from %d on: target %d chosen %d times, its share is %.3f", weights, start, i, got[b.groups[i]], share)
		}
	}
}

func TestEveryWindowIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint64Range(1, 100), 1, 250).Draw(t, "weights")
		b := balancerOf(weights)
		start := rapid.Uint64Range(0, 1<<40).Draw(t, "start")
		for n := range uint64(window) {
			checkWindow(t, b, weights, start+n)
		}
		// The turning points of the offset, where rounds meet that are not neighbours elsewhere.
		turn := window * b.total * rapid.Uint64Range(1, 8).Draw(t, "turn")
		for n := turn - window; n <= turn; n++ {
			checkWindow(t, b, weights, n)
		}
	})
}

func TestSharesAreExactInTheLongRun(t *testing.T) {
	for _, weights := range [][]uint64{{1}, {1, 1}, {50, 50, 100}, {37, 41, 59}, {1, 100}, {3, 7, 11, 13}} {
		b := balancerOf(weights)
		got := make(map[*group]uint64)
		period := 2 * window * b.total
		for n := range period {
			got[b.at(n)]++
		}
		for i, w := range weights {
			if want := 2 * window * w * b.total / sumOf(weights); got[b.groups[i]] != want {
				t.Errorf("weights %v: target %d chosen %d times in %d, want %d", weights, i, got[b.groups[i]], period, want)
			}
		}
	}
}

// TestManyBackendsTakeTurns guards against an offset so slow that some of many equal
// backends see nothing for thousands of requests.
func TestManyBackendsTakeTurns(t *testing.T) {
	weights := make([]uint64, 200)
	for i := range weights {
		weights[i] = 100
	}
	b := balancerOf(weights)
	seen := make(map[*group]bool)
	for n := range uint64(600) {
		seen[b.at(n)] = true
	}
	if len(seen) != len(weights) {
		t.Errorf("600 choices reached %d of 200 equal backends", len(seen))
	}
}

func sumOf(weights []uint64) (sum uint64) {
	for _, w := range weights {
		sum += w
	}
	return sum
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{2, 10, 1000} {
		weights := make([]uint64, n)
		for i := range weights {
			weights[i] = uint64(1 + i%100)
		}
		bal := balancerOf(weights)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				bal.at(uint64(i))
			}
		})
	}
}
