package route

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// item is what a trie holds: a pointer that knows its key.
type item interface {
	comparable
	key() string
}

// node is one node of an immutable hash trie (a HAMT): five bits of the hash choose
// one of 32 branches, of which only the taken ones are stored. Adding or removing one
// item copies the nodes on its path, about four of them for 100,000 items, and shares
// all the rest. A nil *node is the empty trie.
type node[V item] struct {
	bitmap uint32
	slots  []slot[V]
}

// slot holds either a child or one value.
type slot[V item] struct {
	child *node[V]
	value V
}

const (
	branchBits = 5
	branchMask = 1<<branchBits - 1
	// lastShift is where the hash has no bits left: nodes there are plain lists.
	lastShift = 60
)

// hasher turns keys into hashes.
type hasher func(key string) uint64

// newHasher returns a hasher whose collisions no client can predict.
func newHasher() hasher {
	seed := maphash.MakeSeed()
	return func(key string) uint64 { return maphash.String(seed, key) }
}

// get finds a key.
func (n *node[V]) get(hash uint64, key string) (v V, ok bool) {
	for shift := 0; n != nil; shift += branchBits {
		if shift >= lastShift {
			for i := range n.slots {
				if n.slots[i].value.key() == key {
					return n.slots[i].value, true
				}
			}
			return v, false
		}
		bit, i := n.index(hash, shift)
		if n.bitmap&bit == 0 {
			return v, false
		}
		s := &n.slots[i]
		if s.child == nil {
			if s.value.key() == key {
				return s.value, true
			}
			return v, false
		}
		n = s.child
	}
	return v, false
}

// index returns the bit of the branch that hash takes at shift, and its place in slots.
func (n *node[V]) index(hash uint64, shift int) (bit uint32, i int) {
	bit = 1 << (hash >> shift & branchMask)
	return bit, bits.OnesCount32(n.bitmap & (bit - 1))
}

// with returns a trie that also holds v, in place of what had its key.
func (n *node[V]) with(h hasher, v V) *node[V] { return n.put(h, h(v.key()), v, 0) }

func (n *node[V]) put(h hasher, hash uint64, v V, shift int) *node[V] {
	if n == nil {
		n = &node[V]{}
	}
	if shift >= lastShift {
		for i := range n.slots {
			if n.slots[i].value.key() == v.key() {
				return n.replace(i, slot[V]{value: v})
			}
		}
		return &node[V]{slots: append(slices.Clip(n.slots), slot[V]{value: v})}
	}
	bit, i := n.index(hash, shift)
	if n.bitmap&bit == 0 {
		slots := make([]slot[V], len(n.slots)+1)
		copy(slots, n.slots[:i])
		slots[i] = slot[V]{value: v}
		copy(slots[i+1:], n.slots[i:])
		return &node[V]{bitmap: n.bitmap | bit, slots: slots}
	}
	old := n.slots[i]
	if old.child == nil {
		if old.value.key() == v.key() {
			return n.replace(i, slot[V]{value: v})
		}
		old.child = old.child.put(h, h(old.value.key()), old.value, shift+branchBits)
	}
	return n.replace(i, slot[V]{child: old.child.put(h, hash, v, shift+branchBits)})
}

func (n *node[V]) replace(i int, s slot[V]) *node[V] {
	slots := slices.Clone(n.slots)
	slots[i] = s
	return &node[V]{bitmap: n.bitmap, slots: slots}
}

// without returns a trie that does not hold key; nil when nothing is left.
func (n *node[V]) without(h hasher, key string) *node[V] { return n.drop(h(key), key, 0) }

func (n *node[V]) drop(hash uint64, key string, shift int) *node[V] {
	if n == nil {
		return nil
	}
	var bit uint32
	i := -1
	if shift >= lastShift {
		i = slices.IndexFunc(n.slots, func(s slot[V]) bool { return s.value.key() == key })
	} else if b, at := n.index(hash, shift); n.bitmap&b != 0 {
		bit, i = b, at
	}
	if i < 0 {
		return n
	}
	s := n.slots[i]
	if s.child != nil {
		child := s.child.drop(hash, key, shift+branchBits)
		switch {
		case child == s.child:
			return n
		case child != nil && len(child.slots) == 1 && child.slots[0].child == nil:
			return n.replace(i, child.slots[0]) // a lone value moves up
		case child != nil:
			return n.replace(i, slot[V]{child: child})
		}
	} else if s.value.key() != key {
		return n
	}
	if len(n.slots) == 1 {
		return nil
	}
	return &node[V]{bitmap: n.bitmap &^ bit, slots: slices.Delete(slices.Clone(n.slots), i, i+1)}
}

// all yields every item, in no useful order.
func (n *node[V]) all() iter.Seq[V] { return func(yield func(V) bool) { n.walk(yield) } }

func (n *node[V]) walk(yield func(V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.slots {
		if c := n.slots[i].child; c != nil {
			if !c.walk(yield) {
				return false
			}
		} else if !yield(n.slots[i].value) {
			return false
		}
	}
	return true
}

// hashed is an item with its hash, for build.
type hashed[V item] struct {
	hash  uint64
	value V
}

// build makes a trie of items whose keys differ, without the copies of one put each.
func build[V item](h hasher, items []V) *node[V] {
	hs := make([]hashed[V], len(items))
	for i, v := range items {
		hs[i] = hashed[V]{h(v.key()), v}
	}
	return buildNode(hs, 0)
}

func buildNode[V item](hs []hashed[V], shift int) *node[V] {
	if len(hs) == 0 {
		return nil
	}
	n := &node[V]{}
	if shift >= lastShift {
		for _, e := range hs {
			n.slots = append(n.slots, slot[V]{value: e.value})
		}
		return n
	}
	branch := func(e hashed[V]) int { return int(e.hash >> shift & branchMask) }
	slices.SortFunc(hs, func(a, b hashed[V]) int { return branch(a) - branch(b) })
	for _, e := range hs {
		n.bitmap |= 1 << branch(e)
	}
	n.slots = make([]slot[V], 0, bits.OnesCount32(n.bitmap))
	for len(hs) > 0 {
		b, end := branch(hs[0]), 1
		for end < len(hs) && branch(hs[end]) == b {
			end++
		}
		if end == 1 {
			n.slots = append(n.slots, slot[V]{value: hs[0].value})
		} else {
			n.slots = append(n.slots, slot[V]{child: buildNode(hs[:end], shift+branchBits)})
		}
		hs = hs[end:]
	}
	return n
}
