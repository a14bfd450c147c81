package api_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestNewSecretRoundTrips(t *testing.T) {
	secret, id, hash, err := api.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) != 60 || !strings.HasPrefix(secret, "ten_"+id+"_") {
		t.Fatalf("secret %q does not read ten_%s_ + 43 characters", secret, id)
	}
	gotID, gotHash, err := api.ParseSecret(secret)
	if err != nil || gotID != id || gotHash != hash {
		t.Fatalf("ParseSecret = %q, %x, %v; want %q, %x", gotID, gotHash, err, id, hash)
	}
	tok := api.Token{ID: id, SHA256: hash[:]}
	tok.SetDefaults()
	if err := tok.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestNewSecretIsReproducible(t *testing.T) {
	secret, id, _, err := api.NewSecret(bytes.NewReader(make([]byte, 38)))
	if err != nil {
		t.Fatal(err)
	}
	if id != "000000000000" || secret != "ten_000000000000_"+strings.Repeat("A", 43) {
		t.Fatalf("secret of zero bytes = %q", secret)
	}
}

func TestNewSecretNeedsEnoughRandomness(t *testing.T) {
	if _, _, _, err := api.NewSecret(bytes.NewReader(make([]byte, 37))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v, want unexpected EOF", err)
	}
}

func TestParseSecretRefuses(t *testing.T) {
	good := "ten_0123456789ab_" + strings.Repeat("A", 43)
	if _, _, err := api.ParseSecret(good); err != nil {
		t.Fatalf("good secret: %v", err)
	}
	for name, secret := range map[string]string{
		"empty":         "",
		"no prefix":     "tok" + good[3:],
		"upper-case id": strings.ToUpper(good[:17]) + good[17:],
		"not hex":       "ten_0123456789ag_" + good[17:],
		"separator":     good[:16] + "-" + good[17:],
		"short":         good[:59],
		"long":          good + "A",
		"newline":       good[:59] + "\n",
		"alphabet":      good[:59] + "+",
		"loose bits":    good[:59] + "B",
	} {
		id, hash, err := api.ParseSecret(secret)
		if api.CodeOf(err) != api.CodeUnauthenticated || id != "" || hash != [32]byte{} {
			t.Errorf("%s: got %q, %x, %v; want unauthenticated and nothing else", name, id, hash, err)
		}
		if err != nil && len(secret) > 20 && strings.Contains(err.Error(), secret[17:]) {
			t.Errorf("%s: the error repeats the secret", name)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add("ten_0123456789ab_" + strings.Repeat("A", 43))
	f.Add("ten__")
	f.Fuzz(func(t *testing.T, secret string) {
		id, hash, err := api.ParseSecret(secret)
		if err != nil {
			return
		}
		if !strings.HasPrefix(secret, "ten_"+id+"_") || hash != sha256.Sum256([]byte(secret)) {
			t.Fatalf("accepted %q as id %q", secret, id)
		}
	})
}

func TestProblemKeepsTheError(t *testing.T) {
	in := &api.Error{
		Code: api.CodeInvalid, Message: "bad service", RetryAfter: api.Seconds(2),
		Fields: []api.FieldError{{Field: "name", Got: "X", Want: "lower case"}},
	}
	p := in.Problem("Bad Request")
	if p.Status != 400 {
		t.Errorf("status %d, want 400", p.Status)
	}
	out := p.Err()
	if out.Code != in.Code || out.Message != in.Message || out.RetryAfter != in.RetryAfter || out.Fields[0] != in.Fields[0] {
		t.Errorf("got %+v, want %+v", out, in)
	}
}
