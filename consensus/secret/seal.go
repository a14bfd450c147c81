package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
)

// A sealed value is: the version, the id of its secret, a random nonce, the ciphertext
// with its tag. Version and id are authenticated together with the context.
const (
	sealVersion    = 1
	sealHeaderSize = 1 + idSize
)

// ErrSealed is what Open returns for a value that it can't open.
var ErrSealed = errors.New("sealed value can't be opened")

func newSeal(s Secret) (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.derive("seal", 32))
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	// 96 random bits a value are safe for 2³² values under one secret.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	return aead, nil
}

// Seal encrypts plaintext with the primary secret. Only Open with the same context opens
// it: what the value is and whose, so that no sealed value can be put in another's place.
func (k *Keyring) Seal(plaintext, context []byte) []byte {
	key := k.snapshot()[0]
	header := append([]byte{sealVersion}, mustHex(key.id)...)
	sealed := make([]byte, len(header), len(header)+len(plaintext)+key.seal.Overhead())
	copy(sealed, header)
	return key.seal.Seal(sealed, nil, plaintext, append(header, context...)) //nolint:gosec // the nonce is made by the AEAD
}

// Open returns the plaintext of what Seal returned, on this node or another, with any
// secret of the keyring. It fails with [ErrSealed].
func (k *Keyring) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) < sealHeaderSize {
		return nil, fmt.Errorf("%w: it is cut short", ErrSealed)
	}
	header, body := sealed[:sealHeaderSize:sealHeaderSize], sealed[sealHeaderSize:]
	if header[0] != sealVersion {
		return nil, fmt.Errorf("%w: it has version %d, this build knows %d", ErrSealed, header[0], sealVersion)
	}
	id := hex.EncodeToString(header[1:])
	for _, key := range k.snapshot() {
		if key.id != id {
			continue
		}
		plaintext, err := key.seal.Open(nil, nil, body, append(header, context...))
		if err != nil {
			return nil, fmt.Errorf("%w: it was changed, or is another value's", ErrSealed)
		}
		return plaintext, nil
	}
	return nil, fmt.Errorf("%w: it needs the secret %s, which is not in the keyring", ErrSealed, id)
}

// SealedWith returns the id of the secret that a value was sealed with, so that values can
// be sealed anew before a secret is removed; "" for what is no sealed value.
func SealedWith(sealed []byte) string {
	if len(sealed) < sealHeaderSize || sealed[0] != sealVersion {
		return ""
	}
	return hex.EncodeToString(sealed[1:sealHeaderSize])
}

func mustHex(id string) []byte {
	b, err := hex.DecodeString(id)
	if err != nil {
		panic(fmt.Sprintf("id %q: %v", id, err)) // ids are made by EncodeToString
	}
	return b
}
