# What is left out has the API's default.
resource "ten_service" "web" {
  name         = "web"
  command      = "python3 -m http.server {port}"
  health       = "/"
  idle_timeout = "10m"
  memory_limit = "256MiB"

  env = {
    LOG_LEVEL = "info"
  }

  placement = {
    spread_by   = "zone"
    constraints = ["region = eu|us"]
    affinities  = [{ match = "label.ssd", weight = 50 }]
  }
}

# A secret is neither in the state nor in a plan. Another version has it written again.
variable "api_key" {
  type      = string
  ephemeral = true
}

resource "ten_service" "worker" {
  name           = "worker"
  command        = "python3 -m http.server {port}"
  env_wo         = { API_KEY = var.api_key }
  env_wo_version = 1
}
