terraform {
  required_version = ">= 1.11"
  required_providers {
    ten = {
      source = "tenement/ten"
    }
  }
}

resource "ten_service" "this" {
  name    = var.name
  command = var.command
  args    = var.args

  env            = var.env
  env_wo         = var.env_wo
  env_wo_version = var.env_wo_version

  # What is null has the provider's default.
  workdir          = var.service.workdir
  socket           = var.service.socket
  health           = var.service.health
  health_interval  = var.service.health_interval
  isolation        = var.service.isolation
  idle_timeout     = var.service.idle_timeout
  startup_timeout  = var.service.startup_timeout
  request_timeout  = var.service.request_timeout
  stop_timeout     = var.service.stop_timeout
  restart          = var.service.restart
  max_restarts     = var.service.max_restarts
  restart_window   = var.service.restart_window
  backoff_base     = var.service.backoff_base
  backoff_max      = var.service.backoff_max
  memory_limit     = var.service.memory_limit
  cpu_shares       = var.service.cpu_shares
  storage_quota    = var.service.storage_quota
  storage_persist  = var.service.storage_persist
  spawn_on_request = var.service.spawn_on_request
  max_instances    = var.service.max_instances
  on_disconnect    = var.service.on_disconnect
  placement        = var.placement
}

resource "ten_fleet" "this" {
  for_each  = var.fleets
  service   = ten_service.this.name
  name      = each.key
  replicas  = each.value.replicas
  weight    = each.value.weight
  placement = each.value.placement
  wait_for  = each.value.wait_for
  timeouts  = each.value.timeouts
}

locals {
  # Named by reference, so that a fleet is ready before it gets requests by a route.
  fleets = { for name, f in ten_fleet.this : name => { service = f.service, fleet = f.name } }
}

resource "ten_route" "this" {
  for_each = var.routes
  name     = each.key
  hosts    = each.value.hosts
  paths    = each.value.paths
  mode     = each.value.mode
  message  = each.value.message
  backends = concat(
    each.value.weights == null ? [{ service = ten_service.this.name }] : [],
    [for name, weight in coalesce(each.value.weights, {}) : merge(local.fleets[name], { weight = weight })],
  )
}
