package transport

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

// tickets is what a cluster keeps of its short-lived join tokens.
type tickets struct {
	mu   sync.Mutex
	hash map[string][32]byte
	uses map[string]int
}

func (s *tickets) redeem(_ context.Context, id string, hash [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	want, ok := s.hash[id]
	if !ok || subtle.ConstantTimeCompare(want[:], hash[:]) == 0 {
		return api.Errorf(api.CodeUnauthenticated, "no such join token")
	}
	if s.uses[id] == 0 {
		return api.Errorf(api.CodeUnauthenticated, "the join token has been used up")
	}
	s.uses[id]--
	return nil
}

func (s *tickets) issue(t testing.TB, ca string, uses int, addresses ...string) secret.JoinToken {
	t.Helper()
	ticket, err := secret.NewTicket(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.hash[ticket.ID()], s.uses[ticket.ID()] = ticket.Hash(), uses
	s.mu.Unlock()
	text, err := secret.JoinToken{Addresses: addresses, CA: ca, Ticket: ticket}.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	token, err := secret.ParseJoinToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func fingerprint(t testing.TB, s secret.Secret) string {
	t.Helper()
	ca, err := s.CA()
	if err != nil {
		t.Fatal(err)
	}
	return ca.Fingerprint()
}

func TestJoin(t *testing.T) {
	w, s, next := newWorld(), newSecret(t), newSecret(t)
	store := &tickets{hash: map[string][32]byte{}, uses: map[string]int{}}
	k := newKeyring(t, s)
	a := w.start(t, id(0), k, func(c *Config) { c.JoinHandler = JoinHandler(k, store.redeem) })
	closed := w.start(t, id(1), newKeyring(t, s)) // takes no tokens
	stranger := w.start(t, id(2), newKeyring(t, next), func(c *Config) {
		c.JoinHandler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a stranger was shown the ticket") })
	})
	here, dead := a.Addr().String(), "127.0.0.1:1"

	token := store.issue(t, fingerprint(t, s), 1, dead, closed.Addr().String(), stranger.Addr().String(), here)
	got, err := FetchSecrets(t.Context(), token)
	if err != nil || !slices.Equal(got, []secret.Secret{s}) {
		t.Fatalf("got %v, %v", got, err)
	}
	joiner := w.start(t, id(3), newKeyring(t, got...))
	reach(t, joiner, id(0))
	reach(t, a, id(3))

	for name, c := range map[string]struct {
		token secret.JoinToken
		want  string
	}{
		"used up":         {token, "the join token has been used up"},
		"unknown":         {secret.JoinToken{Addresses: []string{here}, CA: fingerprint(t, s), Ticket: newTicket(t)}, "no such join token"},
		"another cluster": {store.issue(t, fingerprint(t, s), 1, stranger.Addr().String()), "not of the cluster that the join token is for"},
		"nobody there":    {store.issue(t, fingerprint(t, s), 1, dead), "nothing that lets nodes join listens there"},
		"no join tokens":  {store.issue(t, fingerprint(t, s), 1, closed.Addr().String()), "takes no join tokens"},
		"empty":           {secret.JoinToken{}, "the join token is empty"},
	} {
		_, err := FetchSecrets(t.Context(), c.token)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := FetchSecrets(t.Context(), token); api.CodeOf(err) != api.CodeUnauthenticated {
		t.Errorf("got %v", err)
	}
	// The long form needs nobody.
	if got, err := FetchSecrets(t.Context(), secret.JoinToken{Secret: s}); err != nil || !slices.Equal(got, []secret.Secret{s}) {
		t.Errorf("long form: got %v, %v", got, err)
	}
	// While the secret is being replaced a token of before works, and gives both.
	if err := errors.Join(k.Add(next), k.Use(next.ID())); err != nil {
		t.Fatal(err)
	}
	got, err = FetchSecrets(t.Context(), store.issue(t, fingerprint(t, s), 1, here))
	if err != nil || !slices.Equal(got, []secret.Secret{next, s}) {
		t.Errorf("during rotation: got %v, %v", got, err)
	}
}

func newTicket(t testing.TB) secret.Ticket {
	t.Helper()
	ticket, err := secret.NewTicket(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// An address with a node of the cluster that answers nonsense, and one that is silent.
func TestJoinBadAnswers(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	var answer string
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) {
		c.JoinHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if answer == "" {
				w.WriteHeader(http.StatusTeapot)
			}
			_, _ = w.Write([]byte(answer))
		})
	})
	token := secret.JoinToken{Addresses: []string{a.Addr().String()}, CA: fingerprint(t, s), Ticket: newTicket(t)}
	other, err := json.Marshal(joinAnswer{Secrets: []string{newSecret(t).Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                      "418",
		"nonsense":              "malformed",
		`{}`:                    "got 0 secrets",
		`{"secrets":["tens_"]}`: "parse secret",
		string(other):           "no secret of the CA",
	} {
		answer = text
		if _, err := FetchSecrets(t.Context(), token); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	token.Addresses = []string{ln.Addr().String(), a.Addr().String()}
	if _, err := FetchSecrets(ctx, token); err == nil || !strings.Contains(err.Error(), "it does not answer") {
		t.Errorf("silence: got %v", err)
	}
}

func TestJoinHandlerRefusesMalformedRequests(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	k := newKeyring(t, s)
	a := w.start(t, id(0), k, func(c *Config) {
		c.JoinHandler = JoinHandler(k, func(context.Context, string, [32]byte) error {
			return errors.New("what it is stays here")
		})
	})
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: pinned(fingerprint(t, s))}).DialContext(ctx, network, a.Addr().String())
		},
	}}
	good, err := json.Marshal(joinRequest{ID: newTicket(t).ID(), Secret: newTicket(t).Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{
		"":  400,
		"{": 400,
		`{"id":"` + strings.Repeat("x", 9000) + `"}`: 400,
		`{"id":"x","secret":"y"}`:                    401,
		string(good):                                 500,
	} {
		resp, err := client.Post("https://join/join", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var p api.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != want || strings.Contains(p.Detail, "stays here") {
			t.Errorf("%.30q: got %s, %+v, %v, want %d", body, resp.Status, p, err, want)
		}
		_ = resp.Body.Close()
	}
}
