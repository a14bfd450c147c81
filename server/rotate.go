package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// The cluster's secret is replaced in three steps: every node is given the new one, then
// every node uses it, then every node forgets the old one. The leader takes the next step
// once every node has confirmed the last, so that no two nodes are ever more than one
// step apart, and such always trust each other.

// sealedFor is the context under which the new secret is sealed with the old one.
var sealedFor = []byte("tenement cluster secret")

// Secret implements httpapi.Members.
func (m members) Secret(context.Context) (api.SecretStatus, error) {
	s := m.consensus.View().Secret()
	if s == nil {
		return api.SecretStatus{Secrets: m.peers.keyring.IDs(), Complete: true}, nil
	}
	return api.SecretStatus{Phase: s.Phase, Secrets: s.IDs, UpdatedAt: s.UpdatedAt}, nil
}

// RotateSecret implements httpapi.Members.
func (m members) RotateSecret(ctx context.Context) error {
	v := m.consensus.View()
	var revision uint64
	if s := v.Secret(); s != nil {
		if s.Phase != api.SecretRemove || !confirmed(v, s) {
			return api.Errorf(api.CodeConflict, "rotate secret: a rotation is under way: 'ten secret status' shows which nodes it waits for")
		}
		revision = s.Revision
	}
	next, err := secret.New(rand.Reader)
	if err != nil {
		return err
	}
	old := m.peers.keyring.IDs()[0]
	_, err = m.consensus.PutSecret(asCaller(ctx, m.consensus), state.PutSecret{
		Phase: api.SecretInstall, Sealed: m.peers.keyring.Seal([]byte(next.Reveal()), sealedFor),
		IDs: []string{old, next.ID()}, IfMatch: &revision,
	})
	return err
}

// confirmed reports whether every node has taken the present step.
func confirmed(v *state.View, s *state.Secret) bool {
	for n := range v.Nodes() {
		if !slices.Equal(n.SecretIDs, s.IDs) {
			return false
		}
	}
	return true
}

// rotatePause is how often it is looked for the next step, at most.
const rotatePause = 200 * time.Millisecond

// followSecret takes every step of a rotation here, and as the leader begins the next.
func (n *node) followSecret(ctx context.Context) {
	for {
		v := n.consensus.View()
		if s := v.Secret(); s != nil {
			if err := n.takeStep(ctx, s); err != nil && ctx.Err() == nil {
				n.log.Error("this node can't follow the rotation of the cluster's secret", "phase", s.Phase, "error", err)
			}
			if err := n.nextStep(ctx, v, s); err != nil && ctx.Err() == nil {
				n.log.Warn("the rotation of the cluster's secret does not go on", "phase", s.Phase, "error", err)
			}
		}
		select {
		case <-time.After(rotatePause):
		case <-ctx.Done():
			return
		}
		select {
		case <-v.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// takeStep makes this node's keyring what the step wants, and says so.
func (n *node) takeStep(ctx context.Context, s *state.Secret) error {
	k := n.peers.keyring
	if !slices.Equal(k.IDs(), s.IDs) {
		if err := follow(k, s); err != nil {
			return err
		}
		if err := k.Save(n.path(secretFile)); err != nil {
			return err
		}
		n.log.Info("the rotation of the cluster's secret goes on", "phase", s.Phase, "secrets", k.IDs())
	}
	self, ok := n.consensus.View().Node(n.consensus.ID())
	if !ok || slices.Equal(self.SecretIDs, k.IDs()) {
		return nil
	}
	said := self.Clone()
	said.SecretIDs = k.IDs()
	ctx, cancel := context.WithTimeout(asNode(ctx, n.consensus), declareWait)
	defer cancel()
	_, err := n.consensus.DescribeNode(ctx, *said)
	return err
}

func follow(k *secret.Keyring, s *state.Secret) error {
	switch s.Phase {
	case api.SecretInstall:
		text, err := k.Open(s.Sealed, sealedFor)
		if err != nil {
			return err
		}
		next, err := secret.Parse(string(text))
		if err != nil {
			return err
		}
		return k.Add(next)
	case api.SecretUse:
		return k.Use(s.IDs[0])
	case api.SecretRemove:
		for _, id := range k.IDs() {
			if !slices.Contains(s.IDs, id) {
				if err := k.Remove(id); err != nil {
					return err
				}
			}
		}
		return nil
	default:
		return fmt.Errorf("unknown phase %q", s.Phase)
	}
}

// nextStep begins the next step, on the leader, once all nodes have confirmed this one.
func (n *node) nextStep(ctx context.Context, v *state.View, s *state.Secret) error {
	if !n.consensus.IsLeader() || !confirmed(v, s) || len(s.IDs) != 2 {
		return nil
	}
	next := state.PutSecret{IfMatch: &s.Revision}
	switch s.Phase {
	case api.SecretInstall:
		next.Phase, next.IDs, next.Sealed = api.SecretUse, []string{s.IDs[1], s.IDs[0]}, s.Sealed
	case api.SecretUse:
		if err := n.reseal(ctx, v, s.IDs[0]); err != nil {
			return err
		}
		next.Phase, next.IDs = api.SecretRemove, s.IDs[:1]
	default:
		return nil
	}
	_, err := n.consensus.PutSecret(asNode(ctx, n.consensus), next)
	return err
}
