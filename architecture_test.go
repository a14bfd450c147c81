// Package tenement_test holds the rules that no single package can check: who may
// import whom (docs/architecture.md).
package tenement_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tenement-fleet/tenement/"

// allowed maps a package prefix to the prefixes of this module that it may import,
// tests included. The longest prefix that matches a package decides.
var allowed = map[string][]string{
	"api":                        {},
	"api/client":                 {"api"},
	"cmd/ten":                    {"server", "provider", "api"},
	"cmd/terraform-provider-ten": {"provider", "server/config"},
	"provider":                   {"provider", "api"},
	"provider/acctest":           {"provider", "server", "runtime", "api"},
	"server":                     {"server", "consensus", "runtime", "proxy", "api"},
	"server/config":              {"server/config", "api"},
	"server/httpapi":             {"server/httpapi", "server/auth", "api"},
	"server/auth":                {"server/auth", "api"},
	"server/telemetry":           {"server/telemetry", "api"},
	"server/registry":            {"server/registry", "api"},
	"consensus":                  {"consensus", "api"},
	"consensus/state":            {"consensus/state", "api"},
	"consensus/secret":           {"consensus/secret", "api"},
	"consensus/transport":        {"consensus/transport", "consensus/secret", "api"},
	"consensus/schedule":         {"consensus/schedule", "consensus/state", "api"},
	"consensus/gossip":           {"consensus/gossip", "api"},
	"consensus/leader":           {"consensus/leader", "consensus/schedule", "consensus/state", "api"},
	"runtime/tiny":               {},
	"runtime/driver":             {"runtime/driver", "runtime/tiny", "api"},
	"runtime/process":            {"runtime/process", "runtime/driver", "api"},
	"runtime/namespace":          {"runtime/namespace", "runtime/process", "runtime/driver", "api"},
	"runtime/fake":               {"runtime/fake", "runtime/driver", "api"},
	"runtime/archive":            {},
	"runtime/fence":              {},
	"runtime/agent":              {"runtime", "api"},
	"runtime/health":             {"runtime/health", "api"},
	"runtime/logs":               {"runtime/logs", "runtime/tiny", "api"},
	"proxy":                      {"proxy", "api"},
	"examples":                   {},
	"e2e":                        {"api"},
	"bench":                      {"server", "consensus", "runtime", "proxy", "api"},
}

// onlyTests lists the packages that nothing but tests may import: the provider's
// acceptance tests need a cluster, which the provider itself must know nothing of.
var onlyTests = []string{"provider/acctest", "provider/internal/modeltest"}

// standardOnly lists the packages that may import nothing but the standard library.
var standardOnly = []string{"api"}

type listed struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImportRule(t *testing.T) {
	for _, p := range listPackages(t) {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		may, rule := ruleFor(path)
		if rule == "" {
			t.Errorf("package %s has no import rule: add one here and to docs/architecture.md", path)
			continue
		}
		for _, imp := range p.Imports {
			if target, ours := strings.CutPrefix(imp, module); ours && slices.Contains(onlyTests, target) {
				t.Errorf("%s imports %s, which is for tests only", path, target)
			}
		}
		imports := append(append(p.Imports, p.TestImports...), p.XTestImports...)
		for _, imp := range imports {
			target, ours := strings.CutPrefix(imp, module)
			if ours && target != path && !underAny(target, may) {
				t.Errorf("%s imports %s, which the rule for %q does not allow", path, target, rule)
			}
		}
	}
}

func TestStandardLibraryOnly(t *testing.T) {
	pkgs := listPackages(t)
	for _, path := range standardOnly {
		seen := false
		for _, p := range pkgs {
			if p.ImportPath != module+path {
				continue
			}
			seen = true
			for _, imp := range p.Imports {
				if strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("%s imports %s: only the standard library is allowed", path, imp)
				}
			}
		}
		if !seen {
			t.Errorf("package %s not found", path)
		}
	}
}

func ruleFor(path string) (may []string, rule string) {
	for prefix, targets := range allowed {
		if under(path, prefix) && len(prefix) > len(rule) {
			may, rule = targets, prefix
		}
	}
	return may, rule
}

func underAny(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if under(path, p) {
			return true
		}
	}
	return false
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("list packages: %v: %s", err, ee.Stderr)
		}
		t.Fatalf("list packages: %v", err)
	}
	var pkgs []listed
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("parse package list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}
