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
  colours = toset(["blue", "green"])
  hello   = abspath("${path.module}/../../../examples/hello/hello")
}

resource "ten_service" "site" {
  for_each  = local.colours
  name      = "site-${each.key}"
  command   = coalesce(var.programs[each.key], local.hello)
  health    = "/health"
  isolation = "process" # our own code; the default keeps programs apart
}

# Both are there in full, so that the switch can go either way at once.
resource "ten_fleet" "site" {
  for_each = local.colours
  service  = ten_service.site[each.key].name
  name     = each.key
  replicas = var.replicas
}

# The switch. The other colour is still served at the host of its own service.
resource "ten_route" "site" {
  name     = "site"
  hosts    = [var.host]
  backends = [{ service = ten_fleet.site[var.live].service, fleet = ten_fleet.site[var.live].name }]
}
