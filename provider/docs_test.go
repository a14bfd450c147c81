package provider_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

var update = flag.Bool("update", false, "write docs/terraform anew")

const (
	docsDir     = "../docs/terraform"
	docExamples = "../terraform/docs/examples"
)

// TestDocs holds docs/terraform to the schemas, the templates and the examples of
// terraform/docs; make docs writes it anew.
func TestDocs(t *testing.T) {
	made := t.TempDir()
	generate(t, made)
	want := treeOf(t, made)
	if *update {
		err := os.RemoveAll(docsDir)
		if err == nil {
			err = os.CopyFS(docsDir, os.DirFS(made))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	have := treeOf(t, docsDir)
	for name := range have {
		if _, ok := want[name]; !ok {
			t.Errorf("docs/terraform/%s: nothing makes it any more", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] != want[name] {
			t.Errorf("docs/terraform/%s: %s", name, firstChange(have[name], want[name]))
		}
	}
	if t.Failed() {
		t.Log("make docs writes it anew")
	}
}

// generate makes the pages by the pinned tfplugindocs, in an empty directory.
func generate(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	into, err := filepath.Rel(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(config{"format_version": "1.0", "provider_schemas": config{"ten": schemas(t)}})
	if err != nil {
		t.Fatal(err)
	}
	schema := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(schema, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "tool", "-modfile=tools/go.mod", "tfplugindocs", "generate", "--provider-name=ten", "--provider-dir="+root,
		"--providers-schema="+schema, "--examples-dir=terraform/docs/examples", "--website-source-dir=terraform/docs/templates", "--rendered-website-dir="+into)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0") // one build of it, under the race detector too
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("does not exist")) {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// treeOf returns what is in the files below a directory, by path.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func firstChange(have, want string) string {
	a, b := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return "has to say " + b[i]
		}
	}
	return "says too much"
}

// docPages is each kind of page: where its schemas and its examples are.
var docPages = []struct {
	schemas, dir string
	files        []string
}{
	{"resource_schemas", "resources", []string{"resource.tf", "import.sh", "import-by-identity.tf"}},
	{"data_source_schemas", "data-sources", []string{"data-source.tf"}},
	{"ephemeral_resource_schemas", "ephemeral-resources", []string{"ephemeral-resource.tf"}},
	{"functions", "functions", []string{"function.tf"}},
	{"action_schemas", "actions", []string{"action.tf"}},
	{"list_resource_schemas", "list-resources", []string{"list-resource.tfquery.hcl"}},
}

// Everything has an example, nothing else has, and everything is described in sentences.
func TestDocsAreComplete(t *testing.T) {
	all := schemas(t)
	for _, page := range docPages {
		names := all[page.schemas].(config)
		dirs, err := os.ReadDir(filepath.Join(docExamples, page.dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if _, ok := names[d.Name()]; !ok {
				t.Errorf("%s/%s: an example of nothing", page.dir, d.Name())
			}
		}
		for name := range names {
			for _, file := range page.files {
				if _, err := os.Stat(filepath.Join(docExamples, page.dir, name, file)); err != nil {
					t.Errorf("%s %s has no example: %v", page.dir, name, err)
				}
			}
		}
	}
	described(t, "", all)
}

// described fails the test for each part that users read of and that has no description.
func described(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case config:
		for name, part := range v {
			described(t, at+"."+name, part)
		}
		_, attribute := v["type"]
		_, nested := v["nested_type"]
		_, block := v["description_kind"]
		_, function := v["summary"]
		if text, _ := v["description"].(string); (attribute || nested || block || function) && !strings.HasSuffix(text, ".") {
			t.Errorf("%s: described as %q", at, text)
		}
	case []any:
		for _, part := range v {
			described(t, at, part)
		}
	}
}

var docLink = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// Each link to another page finds it.
func TestDocLinks(t *testing.T) {
	for name, text := range treeOf(t, docsDir) {
		for _, link := range docLink.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(docsDir, filepath.Dir(name), link[1])); err != nil {
				t.Errorf("docs/terraform/%s: %v", name, err)
			}
		}
	}
}

// Everything in HCL is in the form that terraform fmt gives it.
func TestFormat(t *testing.T) {
	root, err := filepath.Abs("../terraform")
	if err != nil {
		t.Fatal(err)
	}
	d := acctest.Workspace(t, t.TempDir())
	if out, err := d.Try(t.Context(), "fmt", "-check", "-diff", "-recursive", root); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
