package provider_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const examplesTOML = `
[cluster]
region = "eu"
zone = "eu-1"
labels = { ssd = "yes" }
`

// exampleNeed is what a module says that doesn't get the provider by itself.
const exampleNeed = "terraform {\n  required_providers {\n    ten = { source = \"tenement/ten\" }\n  }\n}\n"

// exampleSecret is the value of the one secret that the examples leave to their user.
const exampleSecret = "a-secret-of-the-examples"

// exampleRun is a configuration of which every example of the documentation is a module,
// and the provider's own example the provider's configuration.
type exampleRun struct {
	*acctest.Dir
	c       *acctest.Cluster
	t       *testing.T
	printed strings.Builder
}

// The examples of the documentation are applied as they are, all of them in one apply; a
// second plan is empty, outputs are what the pages say, what import.sh imports is imported
// and found unchanged, no secret is kept, and destroy leaves nothing. What terraform 1.11
// can't do yet is done by protocol, with the examples' own configuration.
func TestDocExamples(t *testing.T) {
	c := acctest.Here(t, 2, acctest.Config{TOML: examplesTOML}) // data sources tell of nodes, none of which may be lost
	r := &exampleRun{Dir: acctest.Workspace(t, t.TempDir()), c: c, t: t}
	r.Env = append(r.Env, "TEN_TOKEN="+c.Token, "TEN_ENDPOINTS="+strings.Join(c.Endpoints, ","), "TF_VAR_api_key="+exampleSecret)
	r.provider()
	r.modules()
	r.run("get")
	r.run("apply", "-auto-approve")
	r.run("plan", "-out=second.plan", "-detailed-exitcode") // fails if there is a change
	r.outputs()
	r.joinToken()
	p := acctest.Speak(t)
	p.Must(nil, p.Configure(config{"endpoints": []any{c.Endpoints[0]}, "token": c.Token}))
	r.lists(p)
	r.actions(p)
	r.identities(p)
	r.imports()
	r.secrets()
	r.run("destroy", "-auto-approve")
	r.nothingLeft()
}

func (r *exampleRun) run(args ...string) string {
	r.t.Helper()
	out, err := r.Try(r.t.Context(), args...)
	if err != nil {
		r.t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	r.printed.WriteString(out)
	return out
}

func (r *exampleRun) example(path ...string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{docExamples}, path...)...))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// provider writes the provider's configuration: its own example, at the cluster's address.
func (r *exampleRun) provider() {
	text := r.example("provider", "provider.tf")
	for old, is := range map[string]string{
		"ten.example.com:8443/tenement/ten": "tenement/ten",
		"https://ten.example.com:8443":      r.c.Endpoints[0],
		"https://ten2.example.com:8443":     r.c.Endpoints[1],
	} {
		if !strings.Contains(text, old) {
			r.t.Fatalf("no %s in the provider's example", old)
		}
		text = strings.ReplaceAll(text, old, is)
	}
	r.Write("provider.tf", text)
	ca, err := r.c.Client.CA(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.Write("ten-ca.pem", string(ca))
}

// moduleName names the module of an example.
func moduleName(dir, name string) string { return strings.ReplaceAll(dir, "-", "_") + "_" + name }

// modules makes a module of each example, and calls it. What looks at the cluster does so
// when the resources are there.
func (r *exampleRun) modules() {
	var calls, resources, outputs []string
	for _, page := range docPages[:4] {
		dirs, err := os.ReadDir(filepath.Join(docExamples, page.dir))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, d := range dirs {
			name, source := moduleName(page.dir, d.Name()), filepath.Join(page.dir, d.Name())
			r.copy(source)
			call := fmt.Sprintf("module %q {\n  source = \"./%s\"\n", name, filepath.ToSlash(source))
			if strings.Contains(r.example(page.dir, d.Name(), page.files[0]), `variable "api_key"`) {
				call += "  api_key = var.api_key\n"
			}
			if page.dir == "resources" {
				resources = append(resources, "module."+name)
			} else {
				outputs = append(outputs, fmt.Sprintf("    %s = module.%s\n", name, name))
			}
			if page.dir == "data-sources" {
				call += "  depends_on = [" + strings.Join(resources, ", ") + "]\n"
			}
			calls = append(calls, call+"}\n")
		}
	}
	r.Write("main.tf", "variable \"api_key\" {\n  type = string\n  ephemeral = true\n}\n"+strings.Join(calls, "")+
		"output \"all\" {\n  value = {\n"+strings.Join(outputs, "")+"  }\n}\n")
}

// copy makes a module of an example's files.
func (r *exampleRun) copy(dir string) {
	to := filepath.Join(r.Path, dir)
	if err := os.MkdirAll(to, 0o700); err != nil {
		r.t.Fatal(err)
	}
	all, err := os.ReadDir(filepath.Join(docExamples, dir))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range all {
		if !strings.HasPrefix(f.Name(), "import") { // only a root module imports
			r.Write(filepath.Join(dir, f.Name()), r.example(dir, f.Name()))
		}
	}
	r.Write(filepath.Join(dir, "versions.tf"), exampleNeed)
}

// outputs compares what the examples put out with what their pages say.
func (r *exampleRun) outputs() {
	status, err := r.c.Client.Cluster(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var nodes []string
	for _, m := range status.Members {
		nodes = append(nodes, m.Name)
	}
	slices.Sort(nodes)
	want := asJSON(r.t, config{
		"data_sources_ten_cluster":      config{"members": nodes},
		"data_sources_ten_service":      config{"variables": []string{"LOG_LEVEL"}},
		"data_sources_ten_instance":     config{"node": "n1"},
		"data_sources_ten_instances":    config{"urls": []string{"https://alice.notes.example.com", "https://bob.notes.example.com", "https://canary.notes.example.com"}},
		"data_sources_ten_node":         config{"zone": "eu-1"},
		"data_sources_ten_nodes":        config{"fast": nodes},
		"data_sources_ten_route":        config{"shares": config{"v1": 90, "v2": 10}},
		"data_sources_ten_placement":    config{"possible": true},
		"ephemeral_resources_ten_token": config{"cluster": status.ID},
		"functions_parse_ref":           config{"ref": config{"service": "web", "id": "blue"}},
		"functions_instance_url":        config{"instance": "https://blue.web.example.com", "service": "http://web.localhost:8080"},
	})
	out := r.run("output", "-json", "all")
	var got config
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	where, _ := got["data_sources_ten_placement"].(config)
	if all, _ := where["where"].(config); !slices.Equal(slices.Sorted(maps.Keys(all)), []string{"web:more-0", "web:more-1", "web:more-2"}) {
		r.t.Errorf("placement: %v", where)
	}
	delete(where, "where")
	for name, is := range got {
		if len(is.(config)) == 0 { // a module without outputs
			delete(got, name)
		}
	}
	differ(r.t, "outputs", got, want)
}

// joinToken checks the file that the example of ten_join_token has written.
func (r *exampleRun) joinToken() {
	info, err := os.Stat(filepath.Join(r.Path, "join-token"))
	if err != nil {
		r.t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Size() < 20 {
		r.t.Errorf("the join token's file is %v, %d bytes", info.Mode(), info.Size())
	}
	all, err := r.c.Client.JoinTokens(r.t.Context())
	if err != nil || !slices.ContainsFunc(all, func(j *api.JoinToken) bool { return j.Description == "two new servers" && j.MaxUses == 2 }) {
		r.t.Errorf("join tokens: %v, %v", all, err)
	}
}

var (
	// exampleBlock finds a block that Terraform 1.11 can't read yet: the type, and the body.
	exampleBlock = regexp.MustCompile(`(?ms)^(?:action|list) "(\w+)" "\w+" \{\n(.*?)^\}`)
	// exampleInner finds its configuration, or what an import block identifies by.
	exampleInner = regexp.MustCompile(`(?ms)^  (?:config|identity =) \{\n(.*?)^  \}`)
	exampleValue = regexp.MustCompile(`(?m)^ +(\w+) += (.+)$`)
	importLine   = regexp.MustCompile(`(?m)^terraform import (\S+) (\S+)$`)
)

// inner returns the configuration of a block, whose values are constants.
func (r *exampleRun) inner(block string) config {
	r.t.Helper()
	out := config{}
	if m := exampleInner.FindStringSubmatch(block); m != nil {
		for _, v := range exampleValue.FindAllStringSubmatch(m[1], -1) {
			var value any
			if err := json.Unmarshal([]byte(v[2]), &value); err != nil {
				r.t.Fatalf("%s: %v", v[0], err)
			}
			out[v[1]] = value
		}
	}
	return out
}

// blocks calls f for the block of each example of a kind.
func (r *exampleRun) blocks(page int, f func(name string, c config)) {
	r.t.Helper()
	dirs, err := fs.Glob(os.DirFS(docExamples), docPages[page].dir+"/*")
	if err != nil || len(dirs) == 0 {
		r.t.Fatalf("no examples of %s: %v", docPages[page].dir, err)
	}
	for _, dir := range dirs {
		m := exampleBlock.FindStringSubmatch(r.example(dir, docPages[page].files[0]))
		if m == nil || m[1] != filepath.Base(dir) {
			r.t.Fatalf("%s has no block of its own", dir)
		}
		f(m[1], r.inner(m[2]))
	}
}

// lists finds by the examples of list resources what those of resources have made.
func (r *exampleRun) lists(p *acctest.Protocol) {
	server, ok := p.ProviderServer.(tfprotov6.ListResourceServer)
	if !ok {
		r.t.Fatalf("%T lists nothing", p.ProviderServer)
	}
	want := map[string]string{"ten_service": "web", "ten_instance": "notes:canary", "ten_fleet": "api:main", "ten_route": "shop", "ten_node": "n2", "ten_token": r.tokenID()}
	r.blocks(5, func(name string, c config) {
		schema := p.Schemas.ListResourceSchemas[name]
		checked, err := server.ValidateListResourceConfig(r.t.Context(), &tfprotov6.ValidateListResourceConfigRequest{TypeName: name, Config: p.Value(schema, c)})
		p.Must(err, checked.Diagnostics)
		stream, err := server.ListResource(r.t.Context(), &tfprotov6.ListResourceRequest{TypeName: name, Config: p.Value(schema, c), IncludeResource: true})
		if err != nil {
			r.t.Fatal(err)
		}
		var found []string
		for one := range stream.Results {
			p.Must(nil, one.Diagnostics)
			found = append(found, one.DisplayName)
		}
		if !slices.Contains(found, want[name]) {
			r.t.Errorf("%s finds %q, not %q", name, found, want[name])
		}
	})
}

// actions invokes the examples of actions.
func (r *exampleRun) actions(p *acctest.Protocol) {
	server, ok := p.ProviderServer.(tfprotov6.ActionServer)
	if !ok {
		r.t.Fatalf("%T has no actions", p.ProviderServer)
	}
	r.blocks(4, func(name string, c config) {
		value := p.Value(p.Schemas.ActionSchemas[name].Schema, c)
		checked, err := server.ValidateActionConfig(r.t.Context(), &tfprotov6.ValidateActionConfigRequest{ActionType: name, Config: value})
		p.Must(err, checked.Diagnostics)
		stream, err := server.InvokeAction(r.t.Context(), &tfprotov6.InvokeActionRequest{ActionType: name, Config: value})
		if err != nil {
			r.t.Fatal(err)
		}
		for e := range stream.Events {
			if done, ok := e.Type.(tfprotov6.CompletedInvokeActionEventType); ok {
				p.Must(nil, done.Diagnostics)
			}
		}
	})
}

// identities imports by the examples' identities what import.sh imports by name.
func (r *exampleRun) identities(p *acctest.Protocol) {
	ids, err := p.GetResourceIdentitySchemas(r.t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	for name, schema := range p.Schemas.ResourceSchemas {
		id := ids.IdentitySchemas[name]
		identity := r.inner(r.example("resources", name, "import-by-identity.tf"))
		var parts []string
		for _, a := range id.IdentityAttributes {
			parts = append(parts, fmt.Sprint(identity[a.Name]))
		}
		if m := importLine.FindStringSubmatch(r.example("resources", name, "import.sh")); m == nil || !sameParts(parts, strings.Split(m[2], ":")) {
			r.t.Errorf("%s: the identity is %v, the import %v", name, identity, m)
		}
		raw, err := tfprotov6.NewDynamicValue(id.ValueType(), acctest.Tree(id.ValueType(), identity))
		if err != nil {
			r.t.Fatal(err)
		}
		resp, err := p.ImportResourceState(r.t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: name, Identity: &tfprotov6.ResourceIdentityData{IdentityData: &raw}})
		p.Must(err, resp.Diagnostics)
		got := p.Map(schema, resp.ImportedResources[0].State)
		for k, v := range identity {
			if got[k] != v {
				r.t.Errorf("%s: imported %s=%v, want %v", name, k, got[k], v)
			}
		}
	}
}

func sameParts(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// tokenID is the id that stands in for the one in the example of ten_token.
func (r *exampleRun) tokenID() string {
	r.t.Helper()
	all, err := r.c.Client.Tokens(r.t.Context())
	for _, tok := range all {
		if tok.Description == "CI" {
			return tok.ID
		}
	}
	r.t.Fatalf("no token was made: %v", err)
	return ""
}

// imports has terraform forget what the examples import, and imports it as they say.
func (r *exampleRun) imports() {
	forget, blocks := []string{"state", "rm"}, ""
	for _, page := range r.resourceNames() {
		m := importLine.FindStringSubmatch(r.example("resources", page, "import.sh"))
		address := "module." + moduleName("resources", page) + "." + m[1]
		forget = append(forget, address)
		blocks += fmt.Sprintf("import {\n  to = %s\n  id = %q\n}\n", address, strings.ReplaceAll(m[2], "0123456789ab", r.tokenID()))
	}
	r.run(forget...)
	r.Write("import.tf", blocks)
	want := regexp.MustCompile(fmt.Sprintf(`%d imported, 0 added, \d+ changed, 0 destroyed`, len(forget)-2))
	if out := r.run("apply", "-auto-approve"); !want.MatchString(out) {
		r.t.Errorf("want %s, terraform has done\n%s", want, out)
	}
	r.run("plan", "-out=third.plan", "-detailed-exitcode")
}

func (r *exampleRun) resourceNames() []string {
	return slices.Sorted(maps.Keys(acctest.Speak(r.t).Schemas.ResourceSchemas))
}

// secrets searches what Terraform has kept and printed.
func (r *exampleRun) secrets() {
	join, err := os.ReadFile(filepath.Join(r.Path, "join-token"))
	if err != nil {
		r.t.Fatal(err)
	}
	token := regexp.MustCompile(`ten_[0-9a-f]{12}_[A-Za-z0-9_-]{20}`)
	kept := map[string]string{"what it printed": r.printed.String()}
	for _, name := range []string{"terraform.tfstate", "second.plan", "third.plan"} {
		kept[name] = contents(r.t, filepath.Join(r.Path, name))
	}
	for name, text := range kept {
		if strings.Contains(text, exampleSecret) || strings.Contains(text, strings.TrimSpace(string(join))) || token.MatchString(text) {
			r.t.Errorf("a secret is in %s", name)
		}
	}
}

func (r *exampleRun) nothingLeft() {
	ctx := r.t.Context()
	services, err := r.c.Client.Services(ctx)
	if err != nil || len(services) > 0 {
		r.t.Errorf("left behind: %v, %v", services, err)
	}
	routes, err := r.c.Client.Routes(ctx)
	if err != nil || len(routes) > 0 {
		r.t.Errorf("left behind: %v, %v", routes, err)
	}
	if n, err := r.c.Client.Member(ctx, "n2"); err != nil || n.Eligibility != api.EligibilityEligible {
		r.t.Errorf("n2 was not released: %+v, %v", n, err)
	}
}
