package state

import (
	"bytes"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Sealed is a value that the state keeps and can't read: encrypted under a secret of the
// cluster, by whoever put it here.
type Sealed struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
	// SecretID is the id of the secret that it takes to read the value.
	SecretID  string    `json:"secret_id"`
	Revision  uint64    `json:"revision,omitempty"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// PutSealed creates or replaces a sealed value. While the cluster's secret is replaced it
// is taken under the one to use only: once that is the new one, and what is there has been
// sealed with it, nothing takes the old one any more.
type PutSealed struct {
	Name     string  `json:"name"`
	Value    []byte  `json:"value"`
	SecretID string  `json:"secret_id"`
	IfMatch  *uint64 `json:"if_match,omitempty"`
}

func (c *PutSealed) apply(t *txn) (any, error) {
	if c.Name == "" || c.SecretID == "" {
		return nil, noKey("sealed.name or sealed.secret_id")
	}
	have, exists := t.sealed.get(c.Name)
	var revision uint64
	if exists {
		revision = have.Revision
	}
	if err := match(c.IfMatch, revision, "sealed value", c.Name); err != nil {
		return nil, err
	}
	if t.secret != nil && len(t.secret.IDs) > 0 && t.secret.IDs[0] != c.SecretID {
		return nil, api.Errorf(api.CodeConflict, "put sealed value %s: it is sealed with the secret %s, the one to use is %s", c.Name, c.SecretID, t.secret.IDs[0])
	}
	if exists && have.SecretID == c.SecretID && bytes.Equal(have.Value, c.Value) {
		return have, nil
	}
	s := &Sealed{Name: c.Name, Value: c.Value, SecretID: c.SecretID, Revision: t.at, UpdatedAt: t.now}
	t.sealed = t.sealed.put(s)
	t.changed = true
	return s, nil
}
