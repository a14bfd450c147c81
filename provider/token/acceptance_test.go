package token_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

var empty = resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}

// as returns a client that bears a secret.
func as(t *testing.T, c *acctest.Cluster, secret string) *client.Client {
	t.Helper()
	cl, err := client.New(client.Config{Endpoints: c.Endpoints, Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// secret makes one and returns its id.
func secret(t *testing.T, seed byte) (text, id string) {
	t.Helper()
	text, id, _, err := api.NewSecret(strings.NewReader(strings.Repeat(string(rune('a'+seed)), 64)))
	if err != nil {
		t.Fatal(err)
	}
	return text, id
}

// A token is made of a given secret, changed in place, drifts, is imported, is replaced by
// one of another secret, is made anew when it was revoked, and is revoked at the end.
func TestToken(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	first, firstID := secret(t, 0)
	second, secondID := secret(t, 1)
	config := func(secret, rest string) string {
		return c.HCL("resource \"ten_token\" \"ci\" {\n  secret_wo = %q\n  %s\n}\n", secret, rest)
	}
	valid := func(secret string, want bool) resource.TestCheckFunc {
		return func(*terraform.State) error {
			if _, err := as(t, c, secret).Services(context.Background()); (err == nil) != want {
				return fmt.Errorf("valid is not %t: %w", want, err)
			}
			return nil
		}
	}
	attr := func(name, want string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttr("ten_token.ci", name, want)
	}
	acts := func(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction("ten_token.ci", a)}}
	}
	const v1 = "description = \"CI\"\n  secret_wo_version = 1\n  expires_at = "
	acctest.Run(t,
		resource.TestStep{
			Config: config(first, v1+`"2090-01-01T00:00:00Z"`),
			Check: resource.ComposeAggregateTestCheckFunc(attr("id", firstID), attr("role", "admin"), valid(first, true),
				resource.TestCheckNoResourceAttr("ten_token.ci", "secret_wo")),
		},
		// Another spelling of the time, and another ephemeral secret, are no change.
		resource.TestStep{Config: config(second, v1+`"2090-01-01T01:00:00+01:00"`), ConfigPlanChecks: empty},
		resource.TestStep{
			Config: config(first, v1+`"2091-01-01T00:00:00Z"`), ConfigPlanChecks: acts(plancheck.ResourceActionUpdate), Check: valid(first, true),
		},
		resource.TestStep{ // somebody has changed it by hand
			PreConfig: func() {
				if _, err := c.Client.PutToken(t.Context(), firstID, api.TokenPut{Description: "mine now"}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config: config(first, v1+`"2091-01-01T00:00:00Z"`), ConfigPlanChecks: acts(plancheck.ResourceActionUpdate), Check: attr("description", "CI"),
		},
		resource.TestStep{
			ResourceName: "ten_token.ci", ImportState: true, ImportStateId: firstID, ImportStateVerify: true,
			ImportStateVerifyIgnore: []string{"secret_wo_version"},
		},
		resource.TestStep{
			Config: config(second, "tenant = \"alice\"\n  secret_wo_version = 2"), ConfigPlanChecks: acts(plancheck.ResourceActionReplace),
			Check: resource.ComposeAggregateTestCheckFunc(attr("id", secondID), attr("role", "tenant"), valid(first, false)),
		},
		resource.TestStep{ // revoked by hand
			PreConfig: func() {
				if err := c.Client.DeleteToken(t.Context(), secondID); err != nil {
					t.Fatal(err)
				}
			},
			Config: config(second, "tenant = \"alice\"\n  secret_wo_version = 2"), ConfigPlanChecks: acts(plancheck.ResourceActionCreate), Check: attr("id", secondID),
		},
		resource.TestStep{Config: config("x", `secret_wo_version = 3`), ExpectError: regexp.MustCompile(`(?s)Not the secret of a token.*not shown`)},
		resource.TestStep{Config: config(first, `role = "root"`), ExpectError: regexp.MustCompile(`(?s)Invalid role.*Got "root", want one of`)},
		resource.TestStep{Config: config(first, "role = \"admin\"\n  tenant = \"alice\""), ExpectError: regexp.MustCompile(`(?s)Invalid tenant.*for an admin token`)},
		resource.TestStep{Config: config(first, `expires_at = "tomorrow"`), ExpectError: regexp.MustCompile(`(?s)Not a time.*Got "tomorrow"`)},
		resource.TestStep{Config: config(first, "secret_wo_version = 4\n  expires_at = \"2020-01-01T00:00:00Z\""), ExpectError: regexp.MustCompile(`(?s)want a time in the future`)},
	)
	onlyOurs(t, c)
}

// onlyOurs fails the test if there are more tokens than the test's own.
func onlyOurs(t *testing.T, c *acctest.Cluster) {
	t.Helper()
	left, err := c.Client.Tokens(t.Context())
	for _, tok := range left {
		if err != nil || tok.Description != "acceptance tests" && tok.Description != "" {
			t.Errorf("left behind: %+v, %v", tok, err)
		}
	}
	// Of a join token that was made by a leader that died before it could say so nobody has
	// the text: another one was made, and this one expires.
	unknown := c.Kills()
	joins, err := c.Client.JoinTokens(t.Context())
	for _, tok := range joins {
		if tok.Description == "one run" && unknown > 0 {
			unknown--
		} else if err != nil || tok.Description != "kept" {
			t.Errorf("left behind: %+v, %v", tok, err)
		}
	}
}

// An ephemeral token is gone after the run; so is a join token, unless it is to be kept.
// A secret that is made in the run becomes a token. That an ephemeral token is good for
// something is seen by TestSecrets of package provider.
func TestEphemeral(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	acctest.Run(t,
		resource.TestStep{
			Config: c.HCL(`
ephemeral "ten_token" "run" {
  description = "one run"
  expires_in  = "10m"
}
ephemeral "ten_join_token" "run" {
  description = "one run"
}
ephemeral "ten_join_token" "kept" {
  description = "kept"
  expires_in  = "5m"
  max_uses    = 1
  keep        = true
}
ephemeral "ten_token_secret" "new" {}
resource "ten_token" "made" {
  description       = "made in the run"
  secret_wo         = ephemeral.ten_token_secret.new.secret
  secret_wo_version = 1
}
`),
			Check: resource.TestMatchResourceAttr("ten_token.made", "id", regexp.MustCompile(`^[0-9a-f]{12}$`)),
		},
	)
	onlyOurs(t, c)
	joins, err := c.Client.JoinTokens(t.Context())
	if err != nil || len(joins) == 0 {
		t.Errorf("no join token was kept: %v", err)
	}
}

// What is wrong is told before anything is made.
func TestBadEphemeral(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	acctest.Run(t,
		resource.TestStep{Config: c.HCL(`ephemeral "ten_token" "t" { expires_in = "1s" }`), ExpectError: regexp.MustCompile(`(?s)expires_in.*Got "1s", want 1m`)},
		resource.TestStep{Config: c.HCL(`ephemeral "ten_token" "t" { role = "tenant" }`), ExpectError: regexp.MustCompile(`(?s)Invalid token.*role`)},
		resource.TestStep{Config: c.HCL(`ephemeral "ten_join_token" "t" { max_uses = -1 }`), ExpectError: regexp.MustCompile(`(?s)max_uses.*Got "-1"`)},
		resource.TestStep{Config: c.HCL(`ephemeral "ten_join_token" "t" { expires_in = "0s" }`), ExpectError: regexp.MustCompile(`(?s)expires_in.*it always ends`)},
	)
	onlyOurs(t, c)
}

// A token that is needed for longer than it lives is renewed, with the same secret.
func TestRenew(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	ctx := t.Context()
	p := acctest.Speak(t)
	p.Must(nil, p.Configure(map[string]any{"endpoints": []any{c.Endpoints[0]}, "token": c.Token}))
	schema := p.Schemas.EphemeralResourceSchemas["ten_token"]
	began := time.Now()
	opened, err := p.OpenEphemeralResource(ctx, &tfprotov6.OpenEphemeralResourceRequest{
		TypeName: "ten_token", Config: p.Value(schema, map[string]any{"expires_in": "3m", "description": "long"}),
	})
	p.Must(err, opened.Diagnostics)
	got := p.Map(schema, opened.Result)
	text, ok := got["secret"].(string)
	if at := opened.RenewAt.Sub(began); !ok || at < time.Minute || at > 150*time.Second {
		t.Fatalf("opened %v, renewed after %s", got["id"], at)
	}
	if strings.Contains(string(opened.Private), text) {
		t.Error("the secret is in the private data")
	}
	find := func() *api.Token {
		all, err := c.Client.Tokens(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range all {
			if tok.ID == got["id"] {
				return tok
			}
		}
		return nil
	}
	before := find()
	renewed, err := p.RenewEphemeralResource(ctx, &tfprotov6.RenewEphemeralResourceRequest{TypeName: "ten_token", Private: opened.Private})
	p.Must(err, renewed.Diagnostics)
	after := find()
	if after == nil || !after.ExpiresAt.After(before.ExpiresAt) || !renewed.RenewAt.After(opened.RenewAt) {
		t.Errorf("renewed from %+v to %+v", before, after)
	}
	if _, err := as(t, c, text).Services(ctx); err != nil {
		t.Errorf("after it was renewed: %v", err)
	}
	for range 2 { // also when it is gone already
		closed, err := p.CloseEphemeralResource(ctx, &tfprotov6.CloseEphemeralResourceRequest{TypeName: "ten_token", Private: renewed.Private})
		p.Must(err, closed.Diagnostics)
	}
	if find() != nil {
		t.Error("it is still valid")
	}
}
