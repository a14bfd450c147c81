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
  hello = abspath("${path.module}/../../../examples/hello/hello")
  versions = {
    stable = { program = coalesce(var.stable, local.hello), replicas = 3, weight = 100 - var.canary_percent }
    canary = { program = coalesce(var.canary, local.hello), replicas = 1, weight = var.canary_percent }
  }
}

# A change of a service restarts its instances: two versions at once are two services.
resource "ten_service" "version" {
  for_each  = local.versions
  name      = "shop-${each.key}"
  command   = each.value.program
  health    = "/health"
  isolation = "process" # our own code; the default keeps programs apart
}

resource "ten_fleet" "version" {
  for_each = local.versions
  service  = ten_service.version[each.key].name
  name     = each.key
  replicas = each.value.replicas
}

# The weights are of the requests, however many instances share them. The fleets are named
# by reference, so that they are healthy before they get any.
resource "ten_route" "shop" {
  name  = "shop"
  hosts = [var.host]
  backends = [for version, v in local.versions : {
    service = ten_fleet.version[version].service
    fleet   = ten_fleet.version[version].name
    weight  = v.weight
  }]
}
