package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func anySecret() *rapid.Generator[Secret] {
	return rapid.Custom(func(t *rapid.T) Secret {
		b := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "bytes")
		b[0] |= 1 // not all zeros
		return Secret{[size]byte(b)}
	})
}

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySecret().Draw(t, "secret")
		got, err := Parse(s.Reveal())
		if err != nil || got != s {
			t.Fatalf("got another secret, %v", err)
		}
		// Any other character in any place is found.
		text := []byte(s.Reveal())
		i := rapid.IntRange(len(prefix), len(text)-1).Draw(t, "place")
		c := rapid.SampledFrom([]byte("ABCxyz019-_")).Draw(t, "character")
		if text[i] == c {
			return
		}
		text[i] = c
		if got, err := Parse(string(text)); err == nil {
			t.Fatalf("a typing error went unnoticed: %s", got.Reveal())
		}
	})
}

func TestParseErrors(t *testing.T) {
	good := fixed(1).Reveal()
	for name, c := range map[string]struct{ text, want string }{
		"empty":        {"", "does not begin with tens_"},
		"other prefix": {"ten_" + good[5:], "does not begin with tens_"},
		"short":        {good[:len(good)-1], "52 characters instead of 53"},
		"long":         {good + "A", "54 characters instead of 53"},
		"newline":      {good + "\n", "54 characters"},
		"characters":   {good[:20] + "!" + good[21:], "characters that no secret has"},
		"typing error": {good[:20] + "!" + good[21:], "characters that no secret has"},
		"swapped":      {good[:30] + good[31:32] + good[30:31] + good[32:], "checksum does not match"},
		"zero":         {Secret{}.Reveal(), "all zeros"},
	} {
		_, err := Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		} else if leaks(err.Error(), c.text) {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
}

// leaks reports whether eight characters in a row of a secret text stand in s.
func leaks(s, secret string) bool {
	for i := len(prefix); i+8 <= len(secret); i++ {
		if strings.Contains(s, secret[i:i+8]) {
			return true
		}
	}
	return false
}

func TestNothingShowsASecret(t *testing.T) {
	s, ticket := fixed('A'), fixedTicket() // its bytes are letters
	token := JoinToken{Addresses: goldenAddresses, Secret: s, Ticket: ticket}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "secret", s, "pointer", &s, "ticket", ticket, "token", token)
	}
	shown := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%t"} {
		for _, v := range []any{s, &s, []Secret{s}, struct{ S Secret }{s}, ticket, &ticket, token} {
			shown += fmt.Sprintf(verb, v)
		}
	}
	for _, v := range []any{s, &s, map[string]any{"s": s}, ticket, token} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown += string(b)
	}
	for _, bad := range []string{
		"ABCDEFGH", "65 66 67", "4142434445", "[65,66", s.Reveal()[10:20], ticket.Reveal()[10:20], "7 8 9 10", "0708090a",
	} {
		if i := strings.Index(shown, bad); i >= 0 {
			t.Errorf("%q is in %s", bad, shown[max(0, i-80):i+20])
		}
	}
	if !strings.Contains(shown, "tens_[redacted]") || !strings.Contains(shown, "tent_a0a1a2a3a4a5_[redacted]") {
		t.Errorf("no placeholder in %s", shown)
	}
}

func TestNew(t *testing.T) {
	a, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(rand.Reader)
	if err != nil || a.Equal(b) || a.IsZero() || a.ID() == b.ID() {
		t.Errorf("two new secrets are not two: %v", err)
	}
	if _, err := New(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("a secret of no randomness")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fixed(1).Reveal())
	f.Add("tens_")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err == nil && s.Reveal() != text {
			t.Errorf("one secret has two texts: %q, %q", text, s.Reveal())
		}
		if err != nil && !s.IsZero() {
			t.Error("a secret beside an error")
		}
	})
}
