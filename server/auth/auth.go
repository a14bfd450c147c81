// Package auth decides who is asking and what they may do: bearer tokens, the local
// admin socket, the limit on failed attempts, and the one policy function [Allow].
//
// Only the SHA-256 of a token is known here. A token is looked up by its public id and
// compared in constant time; when it was last used is kept in memory only.
package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Principal is who sent a request. The zero Principal is anonymous.
type Principal struct {
	Role    api.Role // "" when anonymous
	Tenant  string   // the instance id that a tenant may read
	TokenID string   // "" for the local socket
	// Local is set for the admin socket's peers, who need no token; UID is the peer's.
	Local bool
	UID   int
	// Remote is the address the request came from.
	Remote string
}

type principalKey struct{}

// WithPrincipal returns a context that says on whose behalf something is done.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns the principal of a context, if it has one.
func PrincipalOf(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// Actor names the principal in the audit log.
func (p Principal) Actor() string {
	switch {
	case p.Local:
		return fmt.Sprintf("local uid %d", p.UID)
	case p.Role == api.RoleTenant:
		return "tenant " + p.Tenant
	case p.Role != "":
		return string(p.Role)
	default:
		return "anonymous"
	}
}

// Config is what an [Authenticator] needs.
type Config struct {
	// Token looks a stored token up by its id.
	Token func(id string) (*api.Token, bool)
	Now   func() time.Time
	// Remote tells the address a request came from: never from a header that the client
	// controls.
	Remote func(*http.Request) string
}

// Authenticator tells who sent a request.
type Authenticator struct {
	cfg     Config
	limiter *limiter

	mu       sync.Mutex
	lastUsed map[string]time.Time // by token id; only tokens that exist get in
}

// New returns an Authenticator.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Token == nil || cfg.Now == nil || cfg.Remote == nil {
		return nil, errors.New("new authenticator: Token, Now and Remote are required")
	}
	return &Authenticator{cfg: cfg, limiter: newLimiter(), lastUsed: map[string]time.Time{}}, nil
}

// Authenticate returns the request's principal: anonymous when it carries no
// credentials. Credentials that don't hold are CodeUnauthenticated; after ten of these
// within a minute an address gets CodeTooManyRequests for anything it presents. The local
// socket's peers are admins whatever they send, and never locked out.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	p := Principal{Remote: a.cfg.Remote(r)}
	if peer, ok := peerOf(r.Context()); ok && peer.trusted {
		p.Role, p.Local, p.UID, p.Remote = api.RoleAdmin, true, peer.uid, "local"
		return p, nil
	}
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return p, nil
	}
	now := a.cfg.Now()
	if wait := a.limiter.locked(p.Remote, now); wait > 0 {
		err := api.Errorf(api.CodeTooManyRequests, "too many failed attempts from this address: try again in %s", api.Duration(wait))
		err.RetryAfter = api.Duration(wait)
		return p, err
	}
	t, err := a.verify(header, now)
	if err != nil {
		a.limiter.fail(p.Remote, now)
		return p, err
	}
	p.Role, p.Tenant, p.TokenID = t.Role, t.Tenant, t.ID
	a.mu.Lock()
	a.lastUsed[t.ID] = now
	a.mu.Unlock()
	return p, nil
}

func (a *Authenticator) verify(header []string, now time.Time) (*api.Token, error) {
	if len(header) > 1 {
		return nil, api.Errorf(api.CodeUnauthenticated, "more than one Authorization header")
	}
	scheme, secret, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, api.Errorf(api.CodeUnauthenticated, `want "Authorization: Bearer TOKEN"`)
	}
	id, hash, err := api.ParseSecret(strings.TrimSpace(secret))
	if err != nil {
		return nil, err
	}
	t, known := a.cfg.Token(id)
	stored := make([]byte, len(hash)) // an unknown id costs what a wrong secret costs
	if known && len(t.SHA256) == len(hash) {
		stored = t.SHA256
	}
	if subtle.ConstantTimeCompare(stored, hash[:]) != 1 || !known {
		return nil, api.Errorf(api.CodeUnauthenticated, "token is not valid")
	}
	if expired(t, now) {
		return nil, api.Errorf(api.CodeUnauthenticated, "token expired")
	}
	return t, nil
}

// Valid reports whether the principal's token still exists and has not expired, for
// whoever goes on answering a request long after it was authenticated.
func (a *Authenticator) Valid(p Principal) bool {
	if p.TokenID == "" {
		return true
	}
	t, ok := a.cfg.Token(p.TokenID)
	return ok && !expired(t, a.cfg.Now())
}

func expired(t *api.Token, now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// LastUsed tells when this node last saw the token; zero for never since it started.
func (a *Authenticator) LastUsed(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastUsed[id]
}

// Forget drops what is kept about a deleted token.
func (a *Authenticator) Forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.lastUsed, id)
}
