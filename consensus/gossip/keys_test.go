package gossip

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// keyring is a set of keys that can change.
type keyring struct {
	mu      sync.Mutex
	keys    [][]byte
	changed chan struct{}
}

func newTestKeyring(keys ...[]byte) *keyring {
	return &keyring{keys: keys, changed: make(chan struct{})}
}

func (k *keyring) get() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

func (k *keyring) watch() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

func (k *keyring) set(keys ...[]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	close(k.changed)
	k.changed = make(chan struct{})
}

// awaitKeys waits until the pool's keys are those wanted.
func awaitKeys(t *testing.T, p *Pool, want ...[]byte) {
	t.Helper()
	same := func() bool { return slices.EqualFunc(p.ring.GetKeys(), want, bytes.Equal) }
	for !same() {
		select {
		case <-p.cfg.keysSet:
		case <-t.Context().Done():
			t.Fatal("keys are not taken over")
		}
	}
}

func TestKeyRotation(t *testing.T) {
	before, after := testKey(1), testKey(2)
	var cfgs []Config
	var rings []*keyring
	for _, name := range []string{"a", "b", "c"} {
		cfg, ring := testConfig(t, name), newTestKeyring(before)
		cfg.Keys, cfg.KeysChanged = ring.get, ring.watch
		cfg.keysSet = make(chan struct{}, 100)
		cfgs, rings = append(cfgs, cfg), append(rings, ring)
	}
	pools := openAll(t, cfgs...)
	for _, keys := range [][][]byte{{before, after}, {after, before}, {after}} {
		for i, p := range pools {
			rings[i].set(keys...)
			awaitKeys(t, p, keys...)
			// Between two nodes of different steps, too, everything arrives.
			for _, o := range pools {
				if o != p {
					join(t, p, o)
				}
			}
		}
	}
	for _, p := range pools {
		if n := testutil.ToFloat64(p.metrics.refusals.WithLabelValues(reasonKey)); n != 0 {
			t.Errorf("%s refused %v packets", p.cfg.Meta.Name, n)
		}
	}

	late := open(t, testConfig(t, "late")) // with the key before
	if n, err := late.Join(t.Context(), pools[0].Addr().String()); n != 0 || !errors.Is(err, ErrForeign) {
		t.Errorf("joined %d with a removed key: %v", n, err)
	}
	rings[0].set() // nonsense is not taken over
	<-cfgs[0].keysSet
	awaitKeys(t, pools[0], after)
}

// Whatever keys follow on whatever others, memberlist's ring ends up with those, the
// primary first, and no slice it has handed out changes.
func TestSetKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sets := rapid.SliceOfNDistinct(rapid.ByteRange(1, 6), 1, 4, rapid.ID)
		keysOf := func(b []byte) (keys [][]byte) {
			for _, c := range b {
				keys = append(keys, testKey(c))
			}
			return keys
		}
		ring, err := newKeyring(keysOf(sets.Draw(t, "first")))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			handed := ring.GetKeys()
			copied := cloneKeys(handed)
			want := keysOf(sets.Draw(t, "next"))
			if err := setKeys(ring, want); err != nil {
				t.Fatal(err)
			}
			got := ring.GetKeys()
			if len(got) != len(want) || !bytes.Equal(got[0], want[0]) {
				t.Fatalf("keys are %x, want %x", got, want)
			}
			for _, k := range want {
				if !contains(got, k) {
					t.Fatalf("keys are %x, want %x", got, want)
				}
			}
			if !slices.EqualFunc(handed, copied, bytes.Equal) {
				t.Fatal("a slice that memberlist may be reading has changed")
			}
		}
	})
}
