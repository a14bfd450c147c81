package secret

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

const (
	joinPrefix   = "tenj_"
	joinVersion  = 1
	joinLong     = 1 // followed by the secret
	joinShort    = 2 // followed by the CA's fingerprint, the ticket's id and its secret
	maxAddresses = 8
	maxAddress   = 255
	maxJoinText  = 4096
	ticketPrefix = "tent_"
)

// JoinToken is what a new node needs to become one of a cluster's: where to ask, how to
// know whom it asks, and either the cluster's secret or a ticket for it.
type JoinToken struct {
	Addresses []string // peer addresses, host:port, 1 to 8
	CA        string   // fingerprint of the cluster's CA
	Secret    Secret   // zero in a token that holds a ticket
	Ticket    Ticket   // zero in a token that holds the secret
}

// Ticket stands for a cluster's secret in a join token that is short-lived or limited in
// its uses. The cluster stores its id and its hash. It prints as its id.
type Ticket struct {
	id     [idSize]byte
	secret [size]byte
}

// NewTicket makes a ticket from a source of random bytes, crypto/rand.Reader outside of tests.
func NewTicket(rand io.Reader) (Ticket, error) {
	var b [idSize + size]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return Ticket{}, fmt.Errorf("make ticket: %w", err)
	}
	return Ticket{id: [idSize]byte(b[:]), secret: [size]byte(b[idSize:])}, nil
}

// ParseTicket reads what [Ticket.ID] and [Ticket.Reveal] returned.
func ParseTicket(id, secret string) (Ticket, error) {
	rawID, err := hex.DecodeString(id)
	if err != nil || len(rawID) != idSize || strings.ToLower(id) != id {
		return Ticket{}, fmt.Errorf("parse ticket: its id is not %d hex digits", 2*idSize)
	}
	raw, err := decode(secret)
	if err != nil || len(raw) != size {
		return Ticket{}, errors.New("parse ticket: its secret is malformed")
	}
	return Ticket{id: [idSize]byte(rawID), secret: [size]byte(raw)}, nil
}

// ID returns 12 hex digits to look the ticket up by. They are safe to show.
func (t Ticket) ID() string { return hex.EncodeToString(t.id[:]) }

// Hash returns the SHA-256 by which the cluster recognises the ticket; to be compared in
// constant time.
func (t Ticket) Hash() [32]byte { return sha256.Sum256(append(t.id[:], t.secret[:]...)) }

// Reveal returns the ticket's secret, to be shown to the cluster alone.
func (t Ticket) Reveal() string { return encoding.EncodeToString(t.secret[:]) }

// IsZero reports whether t is no ticket.
func (t Ticket) IsZero() bool { return t == Ticket{} }

// String returns the ticket's id and a placeholder.
func (t Ticket) String() string { return ticketPrefix + t.ID() + "_" + redacted }

// Format writes the ticket's id and a placeholder, whatever the verb.
func (t Ticket) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue returns the ticket's id and a placeholder.
func (t Ticket) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns the ticket's id and a placeholder.
func (t Ticket) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Reveal returns the text that [ParseJoinToken] reads, for the operator who asked for it.
func (t JoinToken) Reveal() (string, error) {
	if t.Secret.IsZero() == t.Ticket.IsZero() {
		return "", errors.New("make join token: it needs either a secret or a ticket")
	}
	var b bytes.Buffer
	b.WriteByte(joinVersion)
	if t.Ticket.IsZero() {
		b.WriteByte(joinLong)
		b.Write(t.Secret.b[:]) // the CA follows from it
	} else {
		ca, err := hex.DecodeString(t.CA)
		if err != nil || len(ca) != sha256.Size {
			return "", fmt.Errorf("make join token: CA: got %q, want the 64 hex digits of its fingerprint", t.CA)
		}
		b.WriteByte(joinShort)
		b.Write(ca)
		b.Write(t.Ticket.id[:])
		b.Write(t.Ticket.secret[:])
	}
	if len(t.Addresses) < 1 || len(t.Addresses) > maxAddresses {
		return "", fmt.Errorf("make join token: got %d addresses, want 1 to %d", len(t.Addresses), maxAddresses)
	}
	b.WriteByte(byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		if err := checkAddress(a); err != nil {
			return "", fmt.Errorf("make join token: address %q: %w", a, err)
		}
		b.WriteByte(byte(len(a)))
		b.WriteString(a)
	}
	b.Write(checksum(joinPrefix, b.Bytes()))
	return joinPrefix + encoding.EncodeToString(b.Bytes()), nil
}

// ParseJoinToken reads a join token's text. Its errors say what is wrong and repeat
// nothing of it.
func ParseJoinToken(text string) (JoinToken, error) {
	t, err := parseJoinToken(text)
	if err != nil {
		return JoinToken{}, fmt.Errorf("parse join token: %w", err)
	}
	return t, nil
}

func parseJoinToken(text string) (t JoinToken, err error) {
	rest, ok := strings.CutPrefix(text, joinPrefix)
	if !ok {
		return t, errors.New("it does not begin with " + joinPrefix)
	}
	if len(text) > maxJoinText {
		return t, fmt.Errorf("it has %d characters: none has more than %d", len(text), maxJoinText)
	}
	raw, err := decode(rest)
	if err != nil {
		return t, errors.New("it is cut short or holds characters that no token has")
	}
	if len(raw) < checkSize || !bytes.Equal(raw[len(raw)-checkSize:], checksum(joinPrefix, raw[:len(raw)-checkSize])) {
		return t, errors.New("it is cut short or a character is wrong: its checksum does not match")
	}
	// From here on the token is as somebody made it.
	r := reader{b: raw[:len(raw)-checkSize]}
	if v := r.byte(); v != joinVersion {
		return t, fmt.Errorf("it has version %d, this build knows %d", v, joinVersion)
	}
	switch kind := r.byte(); kind {
	case joinLong:
		copy(t.Secret.b[:], r.take(size))
	case joinShort:
		t.CA = hex.EncodeToString(r.take(sha256.Size))
		copy(t.Ticket.id[:], r.take(idSize))
		copy(t.Ticket.secret[:], r.take(size))
	default:
		return t, fmt.Errorf("it is of kind %d, which this build does not know", kind)
	}
	n := int(r.byte())
	if !r.bad && (n < 1 || n > maxAddresses) {
		return t, fmt.Errorf("it has %d addresses instead of 1 to %d", n, maxAddresses)
	}
	for i := 0; i < n && !r.bad; i++ {
		a := string(r.take(int(r.byte())))
		if err := checkAddress(a); err != nil && !r.bad {
			return t, fmt.Errorf("address %d: %w", i+1, err)
		}
		t.Addresses = append(t.Addresses, a)
	}
	if r.bad || len(r.b) > 0 {
		return t, errors.New("its parts do not fit its length")
	}
	if t.Secret.IsZero() == t.Ticket.IsZero() {
		return t, errors.New("what it holds is all zeros")
	}
	if !t.Secret.IsZero() {
		ca, err := t.Secret.CA()
		if err != nil {
			return t, err
		}
		t.CA = ca.Fingerprint()
	}
	return t, nil
}

// checkAddress reports whether a is host:port. Its errors do not repeat it.
func checkAddress(a string) error {
	if len(a) > maxAddress {
		return fmt.Errorf("it has more than %d bytes", maxAddress)
	}
	for i := range len(a) {
		if a[i] <= ' ' || a[i] >= 0x7f {
			return errors.New("it holds a character that no address has")
		}
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" {
		return errors.New("it is not of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("its port is not a number from 1 to 65535")
	}
	return nil
}

// reader takes bytes off a slice; once there are too few it is bad and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}
