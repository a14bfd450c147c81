package secret

import (
	"bytes"
	"crypto/rand"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func anyJoinToken() *rapid.Generator[JoinToken] {
	return rapid.Custom(func(t *rapid.T) JoinToken {
		address := rapid.Custom(func(t *rapid.T) string {
			host := rapid.StringMatching(`[a-z0-9.-]{1,40}|\[[0-9a-f:]{2,39}\]`).Draw(t, "host")
			return host + ":" + rapid.StringMatching(`[1-9][0-9]{0,3}`).Draw(t, "port")
		})
		s := anySecret().Draw(t, "secret")
		ca, err := s.CA()
		if err != nil {
			t.Fatal(err)
		}
		token := JoinToken{Addresses: rapid.SliceOfN(address, 1, maxAddresses).Draw(t, "addresses"), CA: ca.Fingerprint()}
		if rapid.Bool().Draw(t, "long") {
			token.Secret = s
			return token
		}
		token.Ticket, err = NewTicket(bytes.NewReader(rapid.SliceOfN(rapid.ByteMin(1), idSize+size, idSize+size).Draw(t, "ticket")))
		if err != nil {
			t.Fatal(err)
		}
		return token
	})
}

func TestJoinTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := anyJoinToken().Draw(t, "token")
		text, err := token.Reveal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseJoinToken(text)
		if err != nil || !reflect.DeepEqual(got, token) {
			t.Fatalf("got %v, %v", got, err)
		}
		i := rapid.IntRange(0, len(text)-1).Draw(t, "place")
		if _, err := ParseJoinToken(text[:i]); err == nil {
			t.Fatal("a token that is cut short was accepted")
		}
		changed := []byte(text)
		changed[i] ^= 1
		if _, err := ParseJoinToken(string(changed)); err == nil {
			t.Fatal("a typing error went unnoticed")
		} else if leaks(err.Error(), text) {
			t.Fatalf("the error repeats the token: %v", err)
		}
	})
}

func TestJoinTokenErrors(t *testing.T) {
	seal := func(b ...byte) string {
		return joinPrefix + encoding.EncodeToString(append(b, checksum(joinPrefix, b)...))
	}
	long := append([]byte{joinVersion, joinLong}, bytes.Repeat([]byte{1}, size)...)
	with := func(tail string) string { return seal(append(bytes.Clone(long), tail...)...) }
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"", "does not begin with tenj_"},
		"a secret":       {fixed(1).Reveal(), "does not begin with tenj_"},
		"nothing":        {joinPrefix, "checksum does not match"},
		"padding":        {with("\x01\x03a:1") + "=", "characters that no token has"},
		"huge":           {joinPrefix + strings.Repeat("A", 5000), "none has more than"},
		"version":        {seal(9), "it has version 9, this build knows 1"},
		"kind":           {seal(joinVersion, 9), "it is of kind 9"},
		"cut":            {seal(long[:20]...), "its parts do not fit"},
		"no address":     {with("\x00"), "it has 0 addresses"},
		"many addresses": {with("\x09"), "it has 9 addresses"},
		"more to come":   {with("\x02\x03a:1"), "its parts do not fit"},
		"trailing":       {with("\x01\x03a:1x"), "its parts do not fit"},
		"no port":        {with("\x01\x01a"), "address 1: it is not of the form host:port"},
		"port zero":      {with("\x01\x03a:0"), "address 1: its port"},
		"port huge":      {with("\x01\x07a:65536"), "address 1: its port"},
		"no host":        {with("\x01\x02:1"), "address 1: it is not of the form host:port"},
		"control":        {with("\x01\x04a\n:1"), "address 1: it holds a character"},
		"zero secret":    {seal(append(append([]byte{joinVersion, joinLong}, make([]byte, size)...), "\x01\x03a:1"...)...), "all zeros"},
	} {
		_, err := ParseJoinToken(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := ParseJoinToken(with("\x01\x03a:1")); err != nil {
		t.Error(err)
	}
	addresses := []string{"a:1"}
	ca := strings.Repeat("ab", 32)
	for name, token := range map[string]JoinToken{
		"neither":    {Addresses: addresses, CA: ca},
		"both":       {Addresses: addresses, CA: ca, Secret: fixed(1), Ticket: fixedTicket()},
		"no CA":      {Addresses: addresses, Ticket: fixedTicket()},
		"no address": {CA: ca, Ticket: fixedTicket()},
		"nine":       {Addresses: make([]string, 9), CA: ca, Ticket: fixedTicket()},
		"malformed":  {Addresses: []string{"a"}, CA: ca, Ticket: fixedTicket()},
		"long":       {Addresses: []string{strings.Repeat("a", 255) + ":1"}, CA: ca, Ticket: fixedTicket()},
	} {
		if text, err := token.Reveal(); err == nil {
			t.Errorf("%s: got %s", name, text)
		}
	}
}

func TestTicket(t *testing.T) {
	ticket, err := NewTicket(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseTicket(ticket.ID(), ticket.Reveal())
	if err != nil || got != ticket || got.Hash() != ticket.Hash() {
		t.Errorf("got %v, %v", got, err)
	}
	for _, c := range [][2]string{
		{"", ticket.Reveal()},
		{ticket.ID()[1:], ticket.Reveal()},
		{"ABCDEFABCDEF", ticket.Reveal()},
		{ticket.ID(), ""},
		{ticket.ID(), ticket.Reveal()[1:]},
		{ticket.ID(), ticket.Reveal() + "\n"},
	} {
		if _, err := ParseTicket(c[0], c[1]); err == nil || leaks(err.Error(), c[1]) {
			t.Errorf("%q: got %v", c[0], err)
		}
	}
	if _, err := NewTicket(bytes.NewReader(nil)); err == nil {
		t.Error("a ticket of no randomness")
	}
}

func FuzzParseJoinToken(f *testing.F) {
	for _, token := range []JoinToken{
		{Addresses: goldenAddresses, Secret: fixed(1)},
		{Addresses: goldenAddresses, CA: strings.Repeat("ab", 32), Ticket: fixedTicket()},
	} {
		text, err := token.Reveal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		// Also what is behind the checksum.
		raw, _ := encoding.DecodeString(text[len(joinPrefix):])
		f.Add(string(raw[:len(raw)-checkSize]))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, text := range []string{text, joinPrefix + encoding.EncodeToString(append([]byte(text), checksum(joinPrefix, []byte(text))...))} {
			token, err := ParseJoinToken(text)
			if err != nil {
				continue
			}
			again, err := token.Reveal()
			if err != nil || again != text {
				t.Errorf("one token has two texts: %q, %q, %v", text, again, err)
			}
		}
	})
}
