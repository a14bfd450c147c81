package secret

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// golden is everything that nodes of different builds must derive, read and write alike.
type golden struct {
	Text        string `json:"text"`
	ID          string `json:"id"`
	Gossip      string `json:"gossip_key"`
	CASeed      string `json:"ca_seed"`
	CA          string `json:"ca_der"`
	Fingerprint string `json:"ca_fingerprint"`
	SealKey     string `json:"seal_key"`
	Sealed      string `json:"sealed"` // one of many possible: it must open for ever
	LongToken   string `json:"join_token_long"`
	ShortToken  string `json:"join_token_short"`
	TicketHash  string `json:"ticket_hash"`
}

var goldenAddresses = []string{"10.0.0.1:7947", "[2001:db8::1]:7947", "ten-3.example.com:7947"}

func TestGolden(t *testing.T) {
	s := fixed(1)
	k := keyring(t, s)
	ca := k.CAs()[0]
	long, err := JoinToken{Addresses: goldenAddresses, Secret: s}.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	short, err := JoinToken{Addresses: goldenAddresses, CA: ca.Fingerprint(), Ticket: fixedTicket()}.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	hash := fixedTicket().Hash()
	got := golden{
		Text: s.Reveal(), ID: s.ID(),
		Gossip:      hex.EncodeToString(k.GossipKeys()[0]),
		CASeed:      hex.EncodeToString(s.derive("ca", 32)),
		CA:          hex.EncodeToString(ca.Certificate().Raw),
		Fingerprint: ca.Fingerprint(),
		SealKey:     hex.EncodeToString(s.derive("seal", 32)),
		Sealed:      hex.EncodeToString(k.Seal([]byte("plain"), []byte("context"))),
		LongToken:   long, ShortToken: short,
		TicketHash: hex.EncodeToString(hash[:]),
	}
	path := filepath.Join("testdata", "golden.json")
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(want.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(sealed, []byte("context")); err != nil || string(plain) != "plain" {
		t.Errorf("open the golden value: got %q, %v", plain, err)
	}
	got.Sealed = want.Sealed
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
