package config

import (
	"cmp"
	"slices"
	"strings"
)

func (l *loader) readRouting() {
	path := []string{"routing"}
	r := &l.cfg.Routing
	readTable(l, path, "", l.asTable(path, l.doc.root["routing"]), routingKeys, r, func(string) {})
	l.checkRoute([]string{"routing", "default"}, r.Default)
	for _, name := range sortedKeys(r.Subdomain) {
		at := []string{"routing", "subdomain", name}
		if !validDomain(name) {
			l.add(at, quoted(name), "one or more DNS labels", "")
		}
		l.checkRoute(at, r.Subdomain[name])
	}
	seen := make(map[string]string)
	paths := sortedKeys(r.Path)
	slices.SortStableFunc(paths, func(a, b string) int {
		return cmp.Compare(l.doc.line([]string{"routing", "path", a}), l.doc.line([]string{"routing", "path", b}))
	})
	for _, name := range paths {
		at := []string{"routing", "path", name}
		p := strings.Trim(strings.TrimSuffix(name, "*"), "/")
		if !validRoutePath(p) {
			l.add(at, quoted(name), "a path without * ? #, other than those ten serves itself: / /api /metrics /health /terraform", "")
		} else if first, twice := seen[p]; twice {
			l.add(at, quoted(name), "each path once", quoted(first)+" is the same")
		}
		seen[p] = name
		l.checkRoute(at, r.Path[name])
	}
}

func validRoutePath(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	switch first {
	case "", "api", "metrics", "health", "terraform":
		return false
	}
	return p != ".well-known/terraform.json" && !strings.ContainsAny(p, "*?# \x00") && !strings.Contains(p, "//")
}

// checkRoute reports a route to a service that is none; "" was reported as a wrong type,
// or is no route.
func (l *loader) checkRoute(at []string, service string) {
	if service != "" && l.service(service) == nil {
		l.add(at, quoted(service), "the name of a service", didYouMean(service, l.serviceNames()))
	}
}
