package secret

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const (
	size        = 32 // bytes of a secret
	checkSize   = 4  // bytes of the checksum in a text
	idSize      = 6  // bytes of an id, shown as 12 hex digits
	prefix      = "tens_"
	textSize    = len(prefix) + (size+checkSize)*8/6
	redacted    = "[redacted]"
	checkDomain = "tenement text "
)

// encoding is strict, so that one secret has one text.
var encoding = base64.RawURLEncoding.Strict()

// decode reads base64url. The package that does it would skip line breaks.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("line break")
	}
	return encoding.DecodeString(text)
}

// Secret is a cluster's secret: 256 random bits. Whoever has it is the cluster. The zero
// value is no secret. However it is printed, logged or encoded, it shows nothing of
// itself; [Secret.Reveal] is the one way to its text.
type Secret struct{ b [size]byte }

// New makes a secret from a source of random bytes, crypto/rand.Reader outside of tests.
func New(rand io.Reader) (Secret, error) {
	var s Secret
	if _, err := io.ReadFull(rand, s.b[:]); err != nil {
		return Secret{}, fmt.Errorf("make secret: %w", err)
	}
	return s, nil
}

// Parse reads a secret's text. Its errors say what is wrong and repeat nothing of it.
func Parse(text string) (Secret, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return Secret{}, errors.New("parse secret: it does not begin with " + prefix)
	}
	if len(text) != textSize {
		return Secret{}, fmt.Errorf("parse secret: it has %d characters instead of %d", len(text), textSize)
	}
	raw, err := decode(rest)
	if err != nil || len(raw) != size+checkSize {
		return Secret{}, errors.New("parse secret: it holds characters that no secret has")
	}
	if !bytes.Equal(raw[size:], checksum(prefix, raw[:size])) {
		return Secret{}, errors.New("parse secret: a character is wrong: its checksum does not match")
	}
	s := Secret{[size]byte(raw)}
	if s.IsZero() {
		return Secret{}, errors.New("parse secret: it is all zeros")
	}
	return s, nil
}

// Reveal returns the text that [Parse] reads: for the secret's file and for the operator
// who asked for it.
func (s Secret) Reveal() string {
	return prefix + encoding.EncodeToString(append(s.b[:], checksum(prefix, s.b[:])...))
}

// ID returns 12 hex digits that name the secret. They are safe to show.
func (s Secret) ID() string { return hex.EncodeToString(s.derive("id", idSize)) }

// IsZero reports whether s is no secret.
func (s Secret) IsZero() bool { return s.Equal(Secret{}) }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.b[:], o.b[:]) == 1 }

// String returns a placeholder.
func (Secret) String() string { return prefix + redacted }

// GoString returns a placeholder.
func (s Secret) GoString() string { return s.String() }

// Format writes a placeholder, whatever the verb: %d would otherwise print the bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns a placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns a placeholder.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// derive returns n bytes that only a holder of the secret can compute, others for each purpose.
func (s Secret) derive(purpose string, n int) []byte {
	b, err := hkdf.Key(sha256.New, s.b[:], nil, "tenement v1 "+purpose, n)
	if err != nil {
		panic(fmt.Sprintf("derive %s: %v", purpose, err)) // only for an n beyond 255 hashes
	}
	return b
}

// checksum finds typing errors in a text with the given prefix. It protects nothing.
func checksum(prefix string, b []byte) []byte {
	h := sha256.New()
	h.Write([]byte(checkDomain + prefix))
	h.Write(b)
	return h.Sum(nil)[:checkSize]
}
