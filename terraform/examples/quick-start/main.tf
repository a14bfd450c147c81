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

# What to run: the template that instances and fleets are copies of.
resource "ten_service" "greeter" {
  name         = "greeter"
  command      = local.program
  health       = "/health"
  isolation    = "process" # our own code; the default keeps programs apart
  idle_timeout = "5m"
}

# One copy, with a host name of its own.
resource "ten_instance" "alice" {
  service = ten_service.greeter.name
  id      = "alice"
}

# And some that are alike, which share the host name of the service.
resource "ten_fleet" "web" {
  service  = ten_service.greeter.name
  name     = "web"
  replicas = var.replicas
}
