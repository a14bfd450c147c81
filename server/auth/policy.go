package auth

import "github.com/tenement-fleet/tenement/api"

// Access is the least that an endpoint asks of whoever calls it.
type Access int

// The levels of access.
const (
	AccessAdmin  Access = iota // admins
	AccessTenant               // admins, and tenants for what is theirs
	AccessPublic               // everybody
)

// String returns "admin", "tenant" or "public".
func (a Access) String() string {
	switch a {
	case AccessTenant:
		return "tenant"
	case AccessPublic:
		return "public"
	default:
		return "admin"
	}
}

// Allow is the policy: whether the principal may use an endpoint of the given access for
// the given object. The object is the id of an instance, or "" for an endpoint that names
// none, whose handler narrows its answer by [Principal.Sees].
//
// Anonymous callers get CodeUnauthenticated, tenants on an admin's endpoint
// CodeForbidden, and tenants that name somebody else's object CodeNotFound, exactly as if
// it did not exist.
func Allow(p Principal, access Access, object string) error {
	switch {
	case access == AccessPublic || p.Role == api.RoleAdmin:
		return nil
	case p.Role != api.RoleTenant:
		return api.Errorf(api.CodeUnauthenticated, `no token: send "Authorization: Bearer TOKEN"; ten token-gen makes one`)
	case access != AccessTenant:
		return api.Errorf(api.CodeForbidden, "a tenant token may read its own instances, their health and logs only")
	case object != "" && !p.Sees(object):
		return api.Errorf(api.CodeNotFound, "no such instance")
	default:
		return nil
	}
}

// Sees reports whether the principal may read instances with the given id.
func (p Principal) Sees(id string) bool {
	return p.Role == api.RoleAdmin || p.Role == api.RoleTenant && p.Tenant == id
}
