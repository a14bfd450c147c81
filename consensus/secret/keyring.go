package secret

import (
	"crypto/cipher"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// maxSecrets is how many secrets can be live: the one in use and, while it is being
// replaced, the one before or after it.
const maxSecrets = 2

// Keyring holds one or two secrets. The first, the primary, signs and seals; all of them
// are trusted. To replace a secret: Add the new one on every node, Use it on every node,
// Remove the old one on every node.
type Keyring struct {
	mu      sync.RWMutex
	keys    []*key // replaced, never changed in place
	changed chan struct{}
}

// key is a secret with what is derived from it.
type key struct {
	secret Secret
	id     string
	gossip []byte
	seal   cipher.AEAD
	ca     *CA
}

// NewKeyring returns a keyring of one or two secrets, the primary first.
func NewKeyring(secrets ...Secret) (*Keyring, error) {
	if len(secrets) < 1 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("make keyring: got %d secrets, want 1 to %d", len(secrets), maxSecrets)
	}
	k := &Keyring{changed: make(chan struct{})}
	for _, s := range secrets {
		if k.index(s.ID()) >= 0 {
			return nil, errors.New("make keyring: the same secret twice")
		}
		derived, err := deriveKey(s)
		if err != nil {
			return nil, fmt.Errorf("make keyring: %w", err)
		}
		k.keys = append(k.keys, derived)
	}
	return k, nil
}

func deriveKey(s Secret) (*key, error) {
	if s.IsZero() {
		return nil, errors.New("no secret")
	}
	ca, err := s.CA()
	if err != nil {
		return nil, err
	}
	seal, err := newSeal(s)
	if err != nil {
		return nil, err
	}
	return &key{secret: s, id: s.ID(), gossip: s.derive("gossip", 32), seal: seal, ca: ca}, nil
}

// Secrets returns the secrets, the primary first.
func (k *Keyring) Secrets() []Secret {
	return each(k, func(key *key) Secret { return key.secret })
}

// IDs returns the ids of the secrets, the primary's first.
func (k *Keyring) IDs() []string { return each(k, func(key *key) string { return key.id }) }

// GossipKeys returns the keys for memberlist, the primary first: it encrypts with that one
// and reads all.
func (k *Keyring) GossipKeys() [][]byte {
	return each(k, func(key *key) []byte { return slices.Clone(key.gossip) })
}

// CAs returns the certificate authorities, the primary's first.
func (k *Keyring) CAs() []*CA { return each(k, func(key *key) *CA { return key.ca }) }

// Pool returns the certificates of all CAs.
func (k *Keyring) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range k.CAs() {
		pool.AddCert(ca.certificate)
	}
	return pool
}

// Changed returns a channel that is closed by the next change. Who follows the keyring
// takes the channel first and reads then.
func (k *Keyring) Changed() <-chan struct{} {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.changed
}

// Add makes a secret trusted. One that is there already changes nothing.
func (k *Keyring) Add(s Secret) error {
	derived, err := deriveKey(s)
	if err != nil {
		return fmt.Errorf("add secret: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.index(derived.id) >= 0 {
		return nil
	}
	if len(k.keys) == maxSecrets {
		return fmt.Errorf("add secret: %s and %s are in the keyring: remove one first", k.keys[0].id, k.keys[1].id)
	}
	k.set(append(slices.Clone(k.keys), derived))
	return nil
}

// Use makes the secret with the given id the primary one.
func (k *Keyring) Use(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.index(id)
	switch {
	case i < 0:
		return fmt.Errorf("use secret %q: it is not in the keyring: add it first", id)
	case i > 0:
		keys := slices.Clone(k.keys)
		keys[0], keys[i] = keys[i], keys[0]
		k.set(keys)
	}
	return nil
}

// Remove makes the secret with the given id worthless here. It can't be the primary one.
// One that is not there changes nothing.
func (k *Keyring) Remove(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.index(id)
	switch {
	case i == 0:
		return fmt.Errorf("remove secret %s: it is in use: use another one first", id)
	case i > 0:
		k.set(slices.Delete(slices.Clone(k.keys), i, i+1))
	}
	return nil
}

// index finds a key by id, or returns -1. The caller holds k.mu, or has k to itself.
func (k *Keyring) index(id string) int {
	return slices.IndexFunc(k.keys, func(key *key) bool { return key.id == id })
}

func (k *Keyring) set(keys []*key) {
	k.keys = keys
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *Keyring) snapshot() []*key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys
}

func each[T any](k *Keyring, f func(*key) T) []T {
	keys := k.snapshot()
	out := make([]T, len(keys))
	for i, key := range keys {
		out[i] = f(key)
	}
	return out
}
