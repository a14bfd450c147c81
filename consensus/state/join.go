package state

import (
	"bytes"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// PutJoinToken creates or replaces a join token. How often it was used stays.
type PutJoinToken struct {
	Token api.JoinToken `json:"token"`
}

// DeleteJoinToken removes a join token.
type DeleteJoinToken struct {
	ID string `json:"id"`
}

// UseJoinToken counts one use of a join token. It fails if the token may not be used at
// that time, or not once more.
type UseJoinToken struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// Secret says how far the rotation of the cluster's secret is. The state can't read the
// secret.
type Secret struct {
	Phase api.SecretPhase `json:"phase"`
	// Sealed is the new secret, encrypted under the old one.
	Sealed []byte `json:"sealed,omitempty"`
	// IDs names the secrets that a node has to have in this phase, the one to use first.
	IDs       []string  `json:"ids,omitempty"`
	Revision  uint64    `json:"revision,omitempty"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// PutSecret takes the rotation of the cluster's secret a step on.
type PutSecret struct {
	Phase   api.SecretPhase `json:"phase"`
	Sealed  []byte          `json:"sealed,omitempty"`
	IDs     []string        `json:"ids,omitempty"`
	IfMatch *uint64         `json:"if_match,omitempty"`
}

func (c *PutJoinToken) apply(t *txn) (any, error) {
	k := c.Token
	if k.ID == "" {
		return nil, noKey("token.id")
	}
	k.CreatedAt, k.Uses = t.now, 0
	if have, ok := t.joinTokens.get(k.ID); ok {
		if have.Equal(&k) {
			return have, nil
		}
		k.CreatedAt, k.Uses = have.CreatedAt, have.Uses
	}
	k.Revision = t.at
	t.joinTokens = t.joinTokens.put(&k)
	t.changed = true
	return &k, nil
}

func (c *DeleteJoinToken) apply(t *txn) (any, error) {
	have, ok := t.joinTokens.get(c.ID)
	if !ok {
		return nil, notFound("join token", c.ID)
	}
	t.joinTokens = t.joinTokens.delete(c.ID)
	t.changed = true
	return have, nil
}

func (c *UseJoinToken) apply(t *txn) (any, error) {
	have, ok := t.joinTokens.get(c.ID)
	if !ok {
		return nil, notFound("join token", c.ID)
	}
	if !have.ExpiresAt.IsZero() && !c.At.Before(have.ExpiresAt) {
		return nil, api.Errorf(api.CodeForbidden, "use join token %s: it expired at %s", c.ID, have.ExpiresAt.UTC().Format(time.RFC3339))
	}
	if have.MaxUses > 0 && have.Uses >= have.MaxUses {
		return nil, api.Errorf(api.CodeForbidden, "use join token %s: it was used %d times, as often as it may be", c.ID, have.Uses)
	}
	k := *have
	k.Uses++
	t.joinTokens = t.joinTokens.put(&k)
	t.changed = true
	return &k, nil
}

func (c *PutSecret) apply(t *txn) (any, error) {
	var revision uint64
	if t.secret != nil {
		revision = t.secret.Revision
	}
	if err := match(c.IfMatch, revision, "secret", "of the cluster"); err != nil {
		return nil, err
	}
	if s := t.secret; s != nil && s.Phase == c.Phase && bytes.Equal(s.Sealed, c.Sealed) && slices.Equal(s.IDs, c.IDs) {
		return s, nil
	}
	t.secret = &Secret{Phase: c.Phase, Sealed: c.Sealed, IDs: c.IDs, Revision: t.at, UpdatedAt: t.now}
	t.changed = true
	return t.secret, nil
}
