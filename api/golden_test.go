package api_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// types are all that goes over the wire or into the log.
var types = []any{
	new(api.Service), new(api.Instance), new(api.Observed), new(api.Endpoint), new(api.Report),
	new(api.Node), new(api.Capacity), new(api.Token), new(api.Event), new(api.LogEntry), new(api.LogQuery),
	new(api.Error), new(api.FieldError), new(api.Problem), new(api.Capability),
	new(api.SpawnRequest), new(api.WeightRequest), new(api.DeployRequest), new(api.RouteRequest), new(api.RouteResult),
	new(api.TokenRequest), new(api.TokenPut), new(api.CreatedToken), new(api.Health), new(api.Storage),
	new(api.UpgradeRequest), new(api.UpgradeResult), new(api.Telemetry), new(api.TLSStatus),
	new(api.TLSCertificate), new(api.ServerHealth),
	new(api.Previous), new(api.PlacementRules), new(api.Affinity), new(api.Fleet), new(api.Member), new(api.ClusterStatus),
	new(api.NodeRequest), new(api.PlanRequest), new(api.PlanResult), new(api.Decision), new(api.Exclusion),
	new(api.JoinToken), new(api.JoinTokenRequest), new(api.CreatedJoinToken), new(api.SecretStatus), new(api.SecretNode),
	new(api.RegistryServices), new(api.RegistryVersions), new(api.RegistryVersion), new(api.RegistryPlatform),
	new(api.RegistryPackage), new(api.RegistrySigningKeys), new(api.RegistryKey),
	new(api.Route), new(api.Backend), new(api.RouteStatus), new(api.BackendStatus),
	new(api.MirrorVersions), new(api.MirrorVersion), new(api.MirrorArchives), new(api.MirrorArchive),
}

// notJSON are exported structs that never become JSON as such.
var notJSON = []string{"Assignment", "Ref"}

// The golden files are the wire format. A field may join; a difference in any other
// line breaks clients and stored logs.
func TestGoldenJSON(t *testing.T) {
	for _, p := range types {
		typ := reflect.TypeOf(p).Elem()
		t.Run(typ.Name(), func(t *testing.T) {
			full := reflect.New(typ)
			fill(full.Elem(), "", 0)
			got := asJSON(t, full.Interface()) + asJSON(t, reflect.New(typ).Interface())
			golden := filepath.Join("testdata", typ.Name()+".json")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.Open(golden)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant, of %s,\n%s", got, golden, want)
			}
			// What was written once is read for ever: first the full value, then the zero one.
			dec := json.NewDecoder(f)
			dec.DisallowUnknownFields()
			values := []reflect.Value{full, reflect.New(typ)}
			if typ == reflect.TypeFor[api.Report]() || typ == reflect.TypeFor[api.Decision]() {
				values = values[:1] // one without a name is not accepted
			}
			for _, want := range values {
				back := reflect.New(typ)
				if err := dec.Decode(back.Interface()); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(back.Interface(), want.Interface()) {
					t.Errorf("read back\n%+v\nwant\n%+v", back.Elem(), want.Elem())
				}
			}
		})
	}
}

// sources are the package's files but its tests.
func sources(t *testing.T, mode parser.Mode) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func TestEveryTypeHasAGoldenFile(t *testing.T) {
	known := slices.Clone(notJSON)
	for _, p := range types {
		known = append(known, reflect.TypeOf(p).Elem().Name())
	}
	for _, f := range sources(t, parser.SkipObjectResolution) {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				if _, isStruct := spec.Type.(*ast.StructType); isStruct && !slices.Contains(known, spec.Name.Name) {
					t.Errorf("add api.%s to this test's types", spec.Name.Name)
				}
			}
			return true
		})
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if base := strings.TrimSuffix(filepath.Base(name), ".json"); !slices.Contains(known, base) {
			t.Errorf("%s is of no type", name)
		}
	}
}

// The vocabulary imports the standard library only: everything else imports it.
func TestImports(t *testing.T) {
	for _, f := range sources(t, parser.ImportsOnly) {
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", f.Name, path)
			}
		}
	}
}

// Fields that JSON drops silently when a client misspells them are refused by name, so
// every field must have one, in snake case.
func TestFieldNames(t *testing.T) {
	for _, p := range types {
		typ := reflect.TypeOf(p).Elem()
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || f.Anonymous {
				continue
			}
			if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, "- ") {
				t.Errorf("%s.%s has the JSON name %q", typ.Name(), f.Name, name)
			}
		}
	}
}
