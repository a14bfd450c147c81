terraform {
  required_version = ">= 1.11"
  required_providers {
    ten = {
      source = "tenement/ten"
    }
  }
}

# Where the cluster is, and the token, come from TEN_ENDPOINTS, TEN_TOKEN and TEN_CA.
provider "ten" {}

locals {
  program = coalesce(var.program, abspath("${path.module}/../../../examples/hello/hello"))
}

# The environment belongs to the service, so that a tenant with a secret of its own is one.
resource "ten_service" "tenant" {
  for_each     = var.tenants
  name         = "notes-${each.key}"
  command      = local.program
  health       = "/health"
  isolation    = "process" # our own code; the default keeps programs apart
  idle_timeout = each.value.idle_timeout

  env = {
    TENANT = each.key
    PLAN   = each.value.plan
  }

  # Terraform keeps these neither in the plan nor in the state: it writes them anew when the version changes.
  env_wo         = { API_KEY = var.api_keys[each.key] }
  env_wo_version = each.value.key_version
}

resource "ten_instance" "tenant" {
  for_each = ten_service.tenant
  service  = each.value.name
  id       = "main"
}
