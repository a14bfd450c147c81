package fleet_test

import (
	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/tenement-fleet/tenement/api/client"
)

type terraformState = terraform.State

func clientQuery(service string) client.InstanceQuery { return client.InstanceQuery{Service: service} }
