package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

const keyBytes = 32

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("keys: at least one is needed")
	}
	for _, k := range keys {
		if len(k) != keyBytes {
			return fmt.Errorf("keys: one has %d bytes, want %d", len(k), keyBytes)
		}
	}
	return nil
}

func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	keys = cloneKeys(keys)
	return memberlist.NewKeyring(keys, keys[0])
}

// setKeys makes ring hold keys, of which the first encrypts. New ones are installed
// before the primary changes, and old ones removed after.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	keys = cloneKeys(keys)
	if err := addKeys(ring, keys); err != nil {
		return err
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	// RemoveKey shifts the keys behind the removed one within a slice that memberlist
	// is reading, which is a race; nothing is behind the last. So those behind come off,
	// too, and are put back: for that moment what they encrypt is lost, as packets are.
	unwanted := func(k []byte) bool { return !contains(keys, k) }
	for {
		have := ring.GetKeys()
		if !slices.ContainsFunc(have, unwanted) {
			return addKeys(ring, keys)
		}
		if err := ring.RemoveKey(have[len(have)-1]); err != nil {
			return err
		}
	}
}

func addKeys(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return err
		}
	}
	return nil
}

func contains(keys [][]byte, k []byte) bool {
	return slices.ContainsFunc(keys, func(o []byte) bool { return bytes.Equal(o, k) })
}

func cloneKeys(keys [][]byte) [][]byte {
	c := make([][]byte, len(keys))
	for i, k := range keys {
		c[i] = bytes.Clone(k)
	}
	return c
}

// followKeys takes over the changes of the cluster's keys.
func (p *Pool) followKeys(ctx context.Context) {
	for {
		changed := p.cfg.KeysChanged()
		if err := setKeys(p.ring, p.cfg.Keys()); err != nil {
			p.log.Error("gossip keeps its keys: the new ones cannot be used", "error", err)
		}
		select {
		case p.cfg.keysSet <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
