package httpapi

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOpenAPI(t *testing.T) {
	f := newFixture(t)
	w := f.do(request("", "GET", "/api/openapi.json", ""))
	if w.Code != 200 || w.Header().Get("Content-Type") != mediaJSON {
		t.Fatalf("got %d %v", w.Code, w.Header())
	}
	golden(t, "openapi.json", w.Body.Bytes())
}

// TestOpenAPIIsConsistent checks what a generator of clients relies on: references lead
// somewhere and nothing is left over, parameters in paths are declared, ids are unique.
func TestOpenAPIIsConsistent(t *testing.T) {
	raw, err := openAPI(table(false))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Paths      map[string]map[string]json.RawMessage
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Errorf("got %+v", doc.Info)
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"\$ref": "([^"]*)"`).FindAllStringSubmatch(string(raw), -1) {
		part, ok := strings.CutPrefix(m[1], "#/components/")
		kind, name, _ := strings.Cut(part, "/")
		if _, found := doc.Components[kind][name]; !ok || !found {
			t.Errorf("%s leads nowhere", m[1])
		}
		used[part] = true
	}
	for kind, members := range doc.Components {
		for name := range members {
			if kind != "securitySchemes" && !used[kind+"/"+name] {
				t.Errorf("%s/%s is not used", kind, name)
			}
		}
	}
	type parameter struct {
		Name, In string
		Schema   map[string]any
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		var inPath []parameter
		if p, ok := item["parameters"]; ok {
			if err := json.Unmarshal(p, &inPath); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for _, p := range inPath {
			if p.In != "path" || len(p.Schema) == 0 {
				t.Errorf("%s: parameter %+v", path, p)
			}
			names = append(names, "{"+p.Name+"}")
		}
		if want := regexp.MustCompile(`\{[^}]*\}`).FindAllString(path, -1); !slices.Equal(names, want) {
			t.Errorf("%s: declares %q", path, names)
		}
		for method, rawOp := range item {
			if method == "parameters" {
				continue
			}
			var op struct {
				OperationID, Summary string
				Responses            map[string]json.RawMessage
				Parameters           []parameter
				Security             []map[string][]string
			}
			if err := json.Unmarshal(rawOp, &op); err != nil {
				t.Fatal(err)
			}
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Responses) != 2 || op.Security == nil {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			ids[op.OperationID] = true
			for _, p := range op.Parameters {
				if p.In != "query" && p.In != "header" || p.Name == "" || len(p.Schema) == 0 {
					t.Errorf("%s %s: parameter %+v", method, path, p)
				}
			}
		}
	}
	if len(ids) != len(table(false)) {
		t.Errorf("%d operations for %d endpoints", len(ids), len(table(false)))
	}
	if s := string(doc.Components["schemas"]["Service"]); !strings.Contains(s, `"namespace"`) {
		t.Errorf("the schema of Service has no isolation levels: %s", s)
	}
}
