package fleet_test

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

func TestMain(m *testing.M) { acctest.Main(m) }

type terraformState = terraform.State

func clientQuery(service string) client.InstanceQuery { return client.InstanceQuery{Service: service} }
