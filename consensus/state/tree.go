package state

import "iter"

// tree is a persistent ordered map, an AVL tree whose nodes never change: put and
// delete return a new tree that shares all but one path with the old one. The zero
// tree has no order and can't be used; see [order.tree].
type tree[K, V any] struct {
	order *order[K, V]
	root  *node[V]
	len   int
}

// order says how a tree finds the key of a value and compares keys. The key lives in
// the value, so that an entry costs the 32 bytes of its node and nothing else.
type order[K, V any] struct {
	key     func(V) K
	compare func(a, b K) int
}

func (o *order[K, V]) tree() tree[K, V] { return tree[K, V]{order: o} }

// build returns the tree of values, which are in order and no two under one key. It is
// faster than to put them, and leaves no litter.
func (o *order[K, V]) build(values []V) tree[K, V] {
	return tree[K, V]{order: o, root: build(values), len: len(values)}
}

func build[V any](values []V) *node[V] {
	if len(values) == 0 {
		return nil
	}
	middle := len(values) / 2
	return join(values[middle], build(values[:middle]), build(values[middle+1:]))
}

type node[V any] struct {
	value       V
	left, right *node[V]
	height      int8 // 2^63 entries would reach 91
}

// get returns the value under key.
func (t tree[K, V]) get(key K) (V, bool) {
	n := t.root
	for n != nil {
		c := t.order.compare(key, t.order.key(n.value))
		switch {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	var zero V
	return zero, false
}

// put returns the tree with value under its key, whatever was there before.
func (t tree[K, V]) put(value V) tree[K, V] {
	root, added := t.insert(t.root, value)
	t.root = root
	if added {
		t.len++
	}
	return t
}

func (t tree[K, V]) insert(n *node[V], value V) (_ *node[V], added bool) {
	if n == nil {
		return join(value, nil, nil), true
	}
	switch c := t.order.compare(t.order.key(value), t.order.key(n.value)); {
	case c < 0:
		left, added := t.insert(n.left, value)
		return balance(n.value, left, n.right), added
	case c > 0:
		right, added := t.insert(n.right, value)
		return balance(n.value, n.left, right), added
	default:
		return join(value, n.left, n.right), false
	}
}

// delete returns the tree without key; the same tree when the key is not there.
func (t tree[K, V]) delete(key K) tree[K, V] {
	if _, ok := t.get(key); !ok {
		return t
	}
	t.root = t.remove(t.root, key)
	t.len--
	return t
}

func (t tree[K, V]) remove(n *node[V], key K) *node[V] {
	switch c := t.order.compare(key, t.order.key(n.value)); {
	case c < 0:
		return balance(n.value, t.remove(n.left, key), n.right)
	case c > 0:
		return balance(n.value, n.left, t.remove(n.right, key))
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	default:
		next, right := takeMin(n.right)
		return balance(next, n.left, right)
	}
}

// takeMin returns the smallest value below n, and n without it.
func takeMin[V any](n *node[V]) (V, *node[V]) {
	if n.left == nil {
		return n.value, n.right
	}
	value, left := takeMin(n.left)
	return value, balance(n.value, left, n.right)
}

// all yields every value in order.
func (t tree[K, V]) all() iter.Seq[V] {
	return func(yield func(V) bool) { t.root.walk(yield) }
}

func (n *node[V]) walk(yield func(V) bool) bool {
	return n == nil || n.left.walk(yield) && yield(n.value) && n.right.walk(yield)
}

// from yields, in order, every value whose key is not less than key.
func (t tree[K, V]) from(key K) iter.Seq[V] {
	return func(yield func(V) bool) { t.walkFrom(t.root, key, yield) }
}

func (t tree[K, V]) walkFrom(n *node[V], key K, yield func(V) bool) bool {
	if n == nil {
		return true
	}
	if t.order.compare(t.order.key(n.value), key) < 0 {
		return t.walkFrom(n.right, key, yield)
	}
	return t.walkFrom(n.left, key, yield) && yield(n.value) && n.right.walk(yield)
}

func (n *node[V]) tall() int8 {
	if n == nil {
		return 0
	}
	return n.height
}

func join[V any](value V, left, right *node[V]) *node[V] {
	return &node[V]{value: value, left: left, right: right, height: 1 + max(left.tall(), right.tall())}
}

// balance joins two trees whose heights differ by at most 2 into one whose subtrees
// differ by at most 1.
func balance[V any](value V, left, right *node[V]) *node[V] {
	switch d := left.tall() - right.tall(); {
	case d > 1 && left.left.tall() >= left.right.tall():
		return join(left.value, left.left, join(value, left.right, right))
	case d > 1:
		m := left.right
		return join(m.value, join(left.value, left.left, m.left), join(value, m.right, right))
	case d < -1 && right.right.tall() >= right.left.tall():
		return join(right.value, join(value, left, right.left), right.right)
	case d < -1:
		m := right.left
		return join(m.value, join(value, left, m.left), join(right.value, m.right, right.right))
	default:
		return join(value, left, right)
	}
}
