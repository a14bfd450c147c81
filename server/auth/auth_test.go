package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is an Authenticator over a map of tokens and a clock that stands still.
type door struct {
	*Authenticator
	tokens map[string]*api.Token
	now    time.Time
}

func newDoor(t testing.TB) *door {
	t.Helper()
	d := &door{tokens: map[string]*api.Token{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	d.Authenticator, err = New(Config{
		Token:  func(id string) (*api.Token, bool) { tok, ok := d.tokens[id]; return tok, ok },
		Now:    func() time.Time { return d.now },
		Remote: func(r *http.Request) string { return r.RemoteAddr },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *door) add(t testing.TB, tok api.Token) (secret string) {
	t.Helper()
	secret, id, hash, err := api.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tok.ID, tok.SHA256 = id, hash[:]
	d.tokens[id] = &tok
	return secret
}

func from(address string, authorization ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = address
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	d := newDoor(t)
	admin := d.add(t, api.Token{Role: api.RoleAdmin})
	tenant := d.add(t, api.Token{Role: api.RoleTenant, Tenant: "alice", ExpiresAt: d.now.Add(time.Second)})
	expired := d.add(t, api.Token{Role: api.RoleAdmin, ExpiresAt: d.now})
	revoked := d.add(t, api.Token{Role: api.RoleAdmin})
	hashless := d.add(t, api.Token{Role: api.RoleAdmin})
	id := func(secret string) string { id, _, _ := api.ParseSecret(secret); return id }
	delete(d.tokens, id(revoked))
	d.tokens[id(hashless)].SHA256 = nil
	d.tokens["000000000000"] = &api.Token{ID: "000000000000", Role: api.RoleAdmin, SHA256: make([]byte, 32)}
	forged := admin[:len(admin)-2] + "xA"
	for name, tc := range map[string]struct {
		header []string
		role   api.Role
		code   api.Code
	}{
		"nothing":          {nil, "", ""},
		"admin":            {[]string{"Bearer " + admin}, api.RoleAdmin, ""},
		"scheme in lower":  {[]string{"bearer  " + admin}, api.RoleAdmin, ""},
		"tenant":           {[]string{"Bearer " + tenant}, api.RoleTenant, ""},
		"expired":          {[]string{"Bearer " + expired}, "", api.CodeUnauthenticated},
		"revoked":          {[]string{"Bearer " + revoked}, "", api.CodeUnauthenticated},
		"without a hash":   {[]string{"Bearer " + hashless}, "", api.CodeUnauthenticated},
		"forged":           {[]string{"Bearer " + forged}, "", api.CodeUnauthenticated},
		"nonsense":         {[]string{"Bearer x"}, "", api.CodeUnauthenticated},
		"empty":            {[]string{""}, "", api.CodeUnauthenticated},
		"basic":            {[]string{"Basic " + admin}, "", api.CodeUnauthenticated},
		"two, one of them": {[]string{"Bearer " + admin, "Bearer x"}, "", api.CodeUnauthenticated},
	} {
		d.limiter = newLimiter()
		p, err := d.Authenticate(from("192.0.2.1", tc.header...))
		if p.Role != tc.role || api.CodeOf(err) != tc.code || p.Remote != "192.0.2.1" {
			t.Errorf("%s: got %+v, %v; want role %q, code %q", name, p, err, tc.role, tc.code)
		}
	}
	if got := d.LastUsed(id(tenant)); !got.Equal(d.now) {
		t.Errorf("last use: got %s", got)
	}
	if got := d.LastUsed(id(expired)); !got.IsZero() {
		t.Errorf("last use of a token that failed: got %s", got)
	}
	p, err := d.Authenticate(from("192.0.2.1", "Bearer "+tenant))
	if err != nil || !d.Valid(p) {
		t.Errorf("got %v", err)
	}
	d.now = d.now.Add(time.Second)
	if d.Valid(p) {
		t.Error("valid after its expiry")
	}
	d.Forget(id(tenant))
	if !d.LastUsed(id(tenant)).IsZero() {
		t.Error("not forgotten")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty Config must be refused")
	}
}

// TestAllow is the whole policy.
func TestAllow(t *testing.T) {
	anonymous := Principal{}
	alice := Principal{Role: api.RoleTenant, Tenant: "alice"}
	admin := Principal{Role: api.RoleAdmin}
	for _, tc := range []struct {
		who    Principal
		access Access
		object string
		want   api.Code
	}{
		{anonymous, AccessPublic, "", ""},
		{anonymous, AccessTenant, "", api.CodeUnauthenticated},
		{anonymous, AccessTenant, "alice", api.CodeUnauthenticated},
		{anonymous, AccessAdmin, "", api.CodeUnauthenticated},
		{alice, AccessPublic, "", ""},
		{alice, AccessTenant, "", ""},
		{alice, AccessTenant, "alice", ""},
		{alice, AccessTenant, "bob", api.CodeNotFound},
		{alice, AccessAdmin, "alice", api.CodeForbidden},
		{admin, AccessPublic, "", ""},
		{admin, AccessTenant, "bob", ""},
		{admin, AccessAdmin, "bob", ""},
		{Principal{Role: "other"}, AccessTenant, "", api.CodeUnauthenticated},
	} {
		if got := api.CodeOf(Allow(tc.who, tc.access, tc.object)); got != tc.want {
			t.Errorf("%s, %s, %q: got %q, want %q", tc.who.Actor(), tc.access, tc.object, got, tc.want)
		}
	}
	if anonymous.Sees("") || alice.Sees("bob") || !alice.Sees("alice") || !admin.Sees("bob") {
		t.Error("Sees is wrong")
	}
}

func TestLockOut(t *testing.T) {
	d := newDoor(t)
	good := d.add(t, api.Token{Role: api.RoleAdmin})
	try := func(address, token string) api.Code {
		_, err := d.Authenticate(from(address, "Bearer "+token))
		return api.CodeOf(err)
	}
	for range maxFailures {
		if got := try("192.0.2.1", "wrong"); got != api.CodeUnauthenticated {
			t.Fatalf("got %q", got)
		}
		d.now = d.now.Add(time.Second)
	}
	_, err := d.Authenticate(from("192.0.2.1", "Bearer "+good))
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.CodeTooManyRequests || e.RetryAfter != api.Seconds(50) {
		t.Errorf("got %v", err)
	}
	if _, err := d.Authenticate(from("192.0.2.1")); err != nil {
		t.Errorf("without credentials: got %v", err)
	}
	if got := try("192.0.2.2", good); got != "" {
		t.Errorf("another address: got %q", got)
	}
	d.now = d.now.Add(50 * time.Second)
	if got := try("192.0.2.1", good); got != "" {
		t.Errorf("a minute after the first: got %q", got)
	}
	for i := range maxFailures { // one client, many addresses of its network
		try(fmt.Sprintf("2001:db8::%x", i), "wrong")
	}
	if got := try("2001:db8::ffff:1", good); got != api.CodeTooManyRequests {
		t.Errorf("same /64: got %q", got)
	}
	if got := try("2001:db8:0:1::1", good); got != "" {
		t.Errorf("another /64: got %q", got)
	}
}

// TestLimiterModel compares the limiter with the simplest one there is.
func TestLimiterModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, now := newLimiter(), time.Unix(0, 0)
		type model struct {
			start time.Time
			n     int
		}
		want := map[string]*model{}
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			address := rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2", "", "::1"}).Draw(rt, "address")
			m := want[address]
			if m == nil || now.Sub(m.start) >= failureWindow {
				m = &model{start: now}
				want[address] = m
			}
			if locked := l.locked(address, now) > 0; locked != (m.n >= maxFailures) {
				rt.Fatalf("%s: locked is %v after %d failures", address, locked, m.n)
			}
			l.fail(address, now)
			if m.n == 0 {
				m.start = now
			}
			m.n++
		}
		if len(l.order) != len(l.windows) {
			rt.Fatalf("%d in order, %d windows", len(l.order), len(l.windows))
		}
	})
}

func TestLimiterIsBounded(t *testing.T) {
	l, now := newLimiter(), time.Unix(0, 0)
	for i := range 3 * maxAddresses {
		l.fail(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), now)
	}
	if len(l.windows) != maxAddresses || len(l.order) != maxAddresses || cap(l.order) > 4*maxAddresses {
		t.Errorf("%d windows, %d in order of %d", len(l.windows), len(l.order), cap(l.order))
	}
	l.locked("x", now.Add(failureWindow))
	if len(l.windows) != 0 || len(l.order) != 0 {
		t.Error("old windows are kept")
	}
}

// closeAfter closes c when the test is over.
func closeAfter(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// accept returns the server's end of a connection to a socket.
func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	client, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, client)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, conn)
	return conn
}

func TestSocketPeerIsAdmin(t *testing.T) {
	d := newDoor(t)
	ln, err := Listen(t.Context(), filepath.Join(t.TempDir(), "ten.sock"))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, ln)
	ctx := ConnContext(t.Context(), accept(t, ln))
	for range 3 * maxFailures { // never locked out
		p, err := d.Authenticate(from("@", "Bearer wrong").WithContext(ctx))
		if err != nil || p.Role != api.RoleAdmin || !p.Local || p.UID != os.Geteuid() || p.TokenID != "" {
			t.Fatalf("got %+v, %v", p, err)
		}
		if !d.Valid(p) {
			t.Error("not valid")
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, tcp)
	for name, ctx := range map[string]context.Context{
		"tcp":            ConnContext(t.Context(), accept(t, tcp)),
		"other user":     context.WithValue(t.Context(), peerKey{}, peer{uid: 4711}),
		"no ConnContext": t.Context(),
	} {
		if p, err := d.Authenticate(from("127.0.0.1").WithContext(ctx)); err != nil || p.Role != "" || p.Local {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ten.sock")
	ln, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", fi, err)
	}
	if _, err := Listen(t.Context(), path); err == nil {
		t.Error("a socket that is served was taken over")
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil { // as after a kill -9: the socket stays, nobody answers
		t.Fatal(err)
	}
	again, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := Listen(t.Context(), filepath.Join(path, "below", "a", "file")); err == nil {
		t.Error("got no error")
	}
}

func TestActor(t *testing.T) {
	for want, p := range map[string]Principal{
		"anonymous":     {},
		"admin":         {Role: api.RoleAdmin},
		"tenant alice":  {Role: api.RoleTenant, Tenant: "alice"},
		"local uid 501": {Role: api.RoleAdmin, Local: true, UID: 501},
	} {
		if got := p.Actor(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
