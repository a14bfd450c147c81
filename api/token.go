package api

import (
	"slices"
	"time"
)

// Role says what the bearer of a token may do.
type Role string

// The roles.
const (
	RoleAdmin  Role = "admin"  // everything
	RoleTenant Role = "tenant" // read the instances of its tenant, their health and logs
)

// Token is a stored credential: never the secret itself, only its SHA-256.
//
// The secret that a client presents reads "ten_" + ID + "_" + 43 characters of
// unpadded base64url (256 random bits).
type Token struct {
	ID   string `json:"id"` // 12 hex digits, public: appears in the audit log
	Role Role   `json:"role"`
	// Tenant is the instance id, in any service, that a tenant token may read.
	Tenant      string    `json:"tenant,omitempty"`
	Description string    `json:"description,omitempty"`
	SHA256      []byte    `json:"sha256,omitempty"` // stored; left out of every API answer
	CreatedAt   time.Time `json:"created_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // zero: never
	Revision    uint64    `json:"revision,omitempty"`
	// LastUsedAt is filled in answers, by the node that is asked, from what it saw since
	// it started; it is never stored.
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
}

// SetDefaults fills every unset field with its default.
func (t *Token) SetDefaults() {
	if t.Role == "" && t.Tenant != "" {
		t.Role = RoleTenant
	}
	setDefault(&t.Role, RoleAdmin)
}

// Validate checks a token after SetDefaults; see [Service.Validate].
func (t *Token) Validate() error {
	var c fieldChecks
	check(&c, validHex(t.ID, 12), "id", t.ID, "12 hex digits")
	all := []Role{RoleAdmin, RoleTenant}
	check(&c, slices.Contains(all, t.Role), "role", t.Role, oneOf[Role](all))
	if t.Role == RoleTenant {
		c.name("tenant", t.Tenant)
	} else {
		check(&c, t.Tenant == "", "tenant", t.Tenant, "nothing, for an admin token")
	}
	check(&c, len(t.Description) <= 200, "description", t.Description, "at most 200 bytes")
	check(&c, len(t.SHA256) == 32, "sha256", len(t.SHA256), "32 bytes")
	return c.err()
}

// Equal reports whether two tokens are the same credential with the same rights.
func (t *Token) Equal(o *Token) bool {
	return t.ID == o.ID && t.Role == o.Role && t.Tenant == o.Tenant && t.Description == o.Description &&
		slices.Equal(t.SHA256, o.SHA256) && t.ExpiresAt.Equal(o.ExpiresAt)
}

// Clone returns a deep copy.
func (t *Token) Clone() *Token {
	c := *t
	c.SHA256 = slices.Clone(t.SHA256)
	return &c
}

// Redacted returns a copy fit for an API answer: without the hash.
func (t *Token) Redacted() *Token {
	c := *t
	c.SHA256 = nil
	return &c
}

func validHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
