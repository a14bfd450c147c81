// Package acctest runs the provider against a real cluster by the real terraform command:
// the acceptance tests of package provider and of those below it. Only tests import it.
package acctest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/servertest"
)

// MinTerraform is the oldest terraform that the tests run with.
const MinTerraform = "1.11.0"

// Cluster is a running cluster, and how the provider reaches it.
type Cluster struct {
	// Nodes are those of a cluster that was started Here; others are not for tests to touch.
	Nodes     []*servertest.Node
	Size      int
	Endpoints []string
	Token     string
	// Client talks to the first node.
	Client *client.Client

	mortals *mortals
}

// Config says what the nodes of a cluster are to be like.
type Config = servertest.Config

// Start runs a cluster of a size until the test ends. It skips the test where there is no
// terraform. Where every leader is to die there are three nodes at least.
func Start(t *testing.T, size int, cfg Config) *Cluster {
	t.Helper()
	if everyLeaderDies() {
		return Mortal(t, max(size, 3), cfg)
	}
	return Here(t, size, cfg)
}

// Alone is Start for exactly one node. Where every leader is to die it comes back at once.
func Alone(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	if everyLeaderDies() {
		return Mortal(t, 1, cfg)
	}
	return Here(t, 1, cfg)
}

// Here is Start for a test that does things to the nodes, which are in its own process:
// nobody else does.
func Here(t *testing.T, size int, cfg Config) *Cluster {
	t.Helper()
	Need(t)
	c := &Cluster{Nodes: servertest.Cluster(t, size, cfg), Size: size}
	for _, n := range c.Nodes {
		self, err := n.Client.Node(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = append(c.Endpoints, "http://"+self.HTTPAddress)
	}
	c.Client = c.Nodes[0].Client
	c.Token = newToken(t, c.Client)
	return c
}

func newToken(t *testing.T, c *client.Client) string {
	t.Helper()
	token, err := c.CreateToken(t.Context(), api.TokenRequest{Role: api.RoleAdmin, Description: "acceptance tests"})
	if err != nil {
		t.Fatal(err)
	}
	return token.Secret
}

// HCL returns a configuration with a provider block for the cluster before it.
func (c *Cluster) HCL(rest string, args ...any) string {
	return Provider(c.Endpoints, c.Token) + fmt.Sprintf(rest, args...)
}

// Provider is a provider block.
func Provider(endpoints []string, token string) string {
	quoted := make([]string, len(endpoints))
	for i, e := range endpoints {
		quoted[i] = fmt.Sprintf("%q", e)
	}
	return fmt.Sprintf("provider \"ten\" {\n  endpoints = [%s]\n  token = %q\n}\n", strings.Join(quoted, ", "), token)
}

// Factories serves the provider in this process, for each command of Terraform anew.
func Factories() map[string]func() (tfprotov6.ProviderServer, error) {
	return map[string]func() (tfprotov6.ProviderServer, error){
		"ten": func() (tfprotov6.ProviderServer, error) {
			p := &provider.Provider{Version: runVersion(), Getenv: func(string) string { return "" }, ParseFile: config.Parse}
			return providerserver.NewProtocol6WithError(p)()
		},
	}
}

// Run runs the steps of a test case.
func Run(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	Need(t)
	resource.UnitTest(t, resource.TestCase{ProtoV6ProviderFactories: Factories(), Steps: steps})
}

// terraform finds the command, once.
var terraform = sync.OnceValue(func() error {
	path, err := exec.LookPath("terraform")
	if err != nil {
		return errors.New("terraform is not on PATH")
	}
	out, err := exec.Command(path, "version", "-json").Output()
	var v struct {
		Version string `json:"terraform_version"`
	}
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", path, err)
	}
	have, err := version.NewVersion(v.Version)
	if err != nil || have.LessThan(version.Must(version.NewVersion(MinTerraform))) {
		return fmt.Errorf("%s is of version %s", path, v.Version)
	}
	// What the test kit reads: without it, it would download terraform.
	for k, v := range map[string]string{"TF_ACC_TERRAFORM_PATH": path, "CHECKPOINT_DISABLE": "1"} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	return nil
})

// Need skips the test, and says so, without a terraform that is new enough.
func Need(t *testing.T) {
	t.Helper()
	if err := terraform(); err != nil {
		t.Skipf("SKIPPED: acceptance tests need terraform %s or later: %v", MinTerraform, err)
	}
}
