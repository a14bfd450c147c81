package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

const (
	secretPrefix = "ten_"
	tokenIDBytes = 6  // 12 hex digits
	secretBytes  = 32 // 256 bits, 43 characters of base64url
	secretLen    = len(secretPrefix) + 2*tokenIDBytes + 1 + 43
)

// NewSecret makes a credential from a source of random bytes, crypto/rand.Reader outside
// of tests: the secret for its holder, and the id and SHA-256 that a [Token] stores.
func NewSecret(rand io.Reader) (secret, id string, hash [32]byte, err error) {
	var b [tokenIDBytes + secretBytes]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", "", hash, fmt.Errorf("make token: %w", err)
	}
	id = hex.EncodeToString(b[:tokenIDBytes])
	secret = secretPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(b[tokenIDBytes:])
	return secret, id, sha256.Sum256([]byte(secret)), nil
}

// ParseSecret takes apart what a client presents: the id to look the [Token] up by and
// the SHA-256, of the whole secret, to compare with it in constant time. Malformed text
// is an *Error with CodeUnauthenticated that does not repeat it.
func ParseSecret(secret string) (id string, hash [32]byte, err error) {
	bad := Errorf(CodeUnauthenticated, "token is not of the form ten_…")
	if len(secret) != secretLen || !strings.HasPrefix(secret, secretPrefix) {
		return "", hash, bad
	}
	id = secret[len(secretPrefix) : len(secretPrefix)+2*tokenIDBytes]
	rest := secret[len(secretPrefix)+len(id):]
	if !validHex(id, 2*tokenIDBytes) || rest[0] != '_' {
		return "", hash, bad
	}
	// Strict: 43 characters hold 2 bits more than 256, which must be zero, so that one
	// credential has one text.
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(rest[1:]); err != nil || len(raw) != secretBytes {
		return "", hash, bad
	}
	return id, sha256.Sum256([]byte(secret)), nil
}
