package registry

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Key signs what a cluster hands out.
type Key struct {
	entity *openpgp.Entity
	armor  string
}

// NewKey makes a key and returns its private half, for [ParseKey]. The name is shown to
// people who look at it.
func NewKey(name string, now time.Time) ([]byte, error) {
	cfg := signing(now)
	e, err := openpgp.NewEntity(name, "", "", cfg)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	e.Subkeys = nil // those are for encryption
	var b bytes.Buffer
	if err := e.SerializePrivate(&b, cfg); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return b.Bytes(), nil
}

// signing leaves nothing to chance but the key itself: whoever signs the same with the
// same key gets the same signature. The old form of Ed25519 is the one that all versions
// of Terraform know.
func signing(at time.Time) *packet.Config {
	random := false
	return &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, DefaultHash: crypto.SHA512,
		Time:                                  func() time.Time { return at },
		NonDeterministicSignaturesViaNotation: &random,
	}
}

// ParseKey reads what NewKey made.
func ParseKey(private []byte) (*Key, error) {
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(private)))
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if e.PrivateKey == nil || e.PrivateKey.Encrypted {
		return nil, errors.New("read signing key: its private half is missing")
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(e.Serialize(w), w.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	return &Key{entity: e, armor: b.String()}, nil
}

// ID returns the key's id as Terraform shows it.
func (k *Key) ID() string { return fmt.Sprintf("%016X", k.entity.PrimaryKey.KeyId) }

// Armor returns the public half as text.
func (k *Key) Armor() string { return k.armor }

// Sign returns the detached signature of a message.
func (k *Key) Sign(message []byte) ([]byte, error) {
	var b bytes.Buffer
	at := k.entity.PrimaryKey.CreationTime
	if err := openpgp.DetachSign(&b, k.entity, bytes.NewReader(message), signing(at)); err != nil {
		return nil, fmt.Errorf("sign checksums: %w", err)
	}
	return b.Bytes(), nil
}
