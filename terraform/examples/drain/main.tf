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

data "ten_nodes" "all" {
  lifecycle {
    postcondition {
      condition     = length(setsubtract(var.draining, self.nodes[*].name)) == 0
      error_message = "draining names a node that is not there. There are: ${join(", ", self.nodes[*].name)}."
    }
  }
}

# Adopts the nodes that have joined; an apply that drains one waits until it is empty.
resource "ten_node" "all" {
  for_each    = toset(data.ten_nodes.all.nodes[*].name)
  node        = each.key
  eligibility = contains(var.draining, each.key) ? "draining" : "eligible"
}

# Something to move. What keeps no data serves at its new place before it ends at the old.
resource "ten_service" "steady" {
  name            = "steady"
  command         = local.program
  health          = "/health"
  isolation       = "process" # our own code; the default keeps programs apart
  storage_persist = false
}

resource "ten_fleet" "web" {
  service  = ten_service.steady.name
  name     = "web"
  replicas = 2 * length(ten_node.all)
}
