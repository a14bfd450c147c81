package server

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/server/registry"
)

// ownFile is the program that runs, also when another one lies at its path by now.
const ownFile = "/proc/self/exe"

// openProvider returns what hands out the Terraform provider.
func (n *node) openProvider(version string) (*registry.Registry, error) {
	key := &signingKey{node: n}
	return registry.New(registry.Config{
		Program: ownFile, Version: registry.Version(version), Dir: n.path("provider"),
		Given: filepath.Join(n.cfg.DataDir, "provider"), Key: key.get, Logger: n.log, Now: n.now,
	})
}

// prepareProvider makes the package of the provider where there is a port that Terraform
// gets it from, so that the first one who asks does not have to wait for it.
func (n *node) prepareProvider(ctx context.Context) {
	if n.cfg.TLSPort == 0 {
		return
	}
	if err := n.provider.Prepare(ctx); err != nil && ctx.Err() == nil {
		n.log.Warn("the Terraform provider can't be handed out yet", "error", err)
	}
}

// sealedSigningKey is the name of the signing key among the sealed values.
const sealedSigningKey = "provider signing key"

// signingKey is the key that the cluster signs the provider with. It is made by whoever
// is asked for it first, and kept sealed in the state.
type signingKey struct {
	*node

	mu       sync.Mutex
	revision uint64
	parsed   *registry.Key
}

// keyWait bounds how long a node waits for the key that another one has just made.
const keyWait = 10 * time.Second

// get returns the key, and makes one if there is none.
func (k *signingKey) get(ctx context.Context) (*registry.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	for {
		v := k.consensus.View()
		stored, ok := v.Sealed(sealedSigningKey)
		if ok {
			key, err := k.open(stored)
			if err == nil || !k.lost(v, stored) {
				return key, err
			}
			k.log.Warn("the cluster makes itself another key to sign the provider with: the secret that sealed the last one is lost")
		}
		err := k.make(ctx, v, stored)
		if code := api.CodeOf(err); err != nil && code != api.CodeStaleRevision && code != api.CodeConflict {
			return nil, err
		}
		// Somebody else's was first, and will be here in a moment, or this node is about to
		// use another secret.
		for err != nil && k.consensus.View().Index() == v.Index() {
			select {
			case <-v.Changed():
			case <-ctx.Done():
				if api.CodeOf(err) == api.CodeConflict {
					return nil, err // it says more
				}
				return nil, &api.Error{Code: api.CodeUnavailable, RetryAfter: api.Seconds(1), Message: "this server has not heard yet of the cluster's signing key"}
			}
		}
	}
}

// make makes a key and stores it in place of the one that is no good any more, if any.
func (k *signingKey) make(ctx context.Context, v *state.View, instead *state.Sealed) error {
	private, err := registry.NewKey("tenement cluster "+v.ClusterID(), k.now().UTC())
	if err != nil {
		return err
	}
	var revision uint64
	if instead != nil {
		revision = instead.Revision
	}
	return k.consensus.PutSealed(asNode(ctx, k.consensus), k.seal(sealedSigningKey, private, &revision))
}

// open returns the key that is stored.
func (k *signingKey) open(s *state.Sealed) (*registry.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.parsed != nil && k.revision == s.Revision {
		return k.parsed, nil
	}
	private, err := k.unseal(s)
	if err != nil {
		return nil, err
	}
	parsed, err := registry.ParseKey(private)
	if err != nil {
		return nil, err
	}
	k.parsed, k.revision = parsed, s.Revision
	return parsed, nil
}

// seal makes a value such that only servers of the cluster can read it.
func (n *node) seal(name string, plaintext []byte, ifMatch *uint64) state.PutSealed {
	value := n.peers.keyring.Seal(plaintext, sealContext(name))
	return state.PutSealed{Name: name, Value: value, SecretID: secret.SealedWith(value), IfMatch: ifMatch}
}

func (n *node) unseal(s *state.Sealed) ([]byte, error) {
	return n.peers.keyring.Open(s.Value, sealContext(s.Name))
}

func sealContext(name string) []byte { return []byte("tenement sealed " + name) }

// lost reports whether nobody can read a sealed value any more: it came with a snapshot
// from before the cluster had its secret.
func (n *node) lost(v *state.View, s *state.Sealed) bool {
	if slices.Contains(n.peers.keyring.IDs(), s.SecretID) {
		return false
	}
	rotation := v.Secret()
	return rotation == nil || !slices.Contains(rotation.IDs, s.SecretID)
}

// reseal seals anew, with the secret of the given id, what is sealed with another one.
// What nobody can read any more is left as it is.
func (n *node) reseal(ctx context.Context, v *state.View, id string) error {
	var errs []error
	for s := range v.AllSealed() {
		if s.SecretID == id {
			continue
		}
		plaintext, err := n.unseal(s)
		if err != nil && n.lost(v, s) {
			n.log.Warn("a sealed value is lost: it takes a secret that the cluster does not have", "value", s.Name, "secret", s.SecretID)
			continue
		}
		if err == nil {
			err = n.consensus.PutSealed(asNode(ctx, n.consensus), n.seal(s.Name, plaintext, &s.Revision))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
