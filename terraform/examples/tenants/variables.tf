variable "tenants" {
  description = "The tenants, by name. A higher key_version has the tenant's secret written again."
  type = map(object({
    plan         = optional(string, "small")
    idle_timeout = optional(string, "5m")
    key_version  = optional(number, 1)
  }))
  default = {
    acme   = {}
    globex = { plan = "large", idle_timeout = "0s" }
  }
}

variable "api_keys" {
  description = "A secret for each tenant, by name. Not kept anywhere: it is needed for every plan and apply."
  type        = map(string)
  ephemeral   = true
  sensitive   = true
}

variable "program" {
  description = "Path, on the servers, of a program that listens on $PORT and answers GET /health. Default: examples/hello of this repository, which `make examples` builds."
  type        = string
  default     = null
}

variable "address" {
  description = "Where the domain of the cluster is reached. Only the outputs use it."
  type        = string
  default     = "http://localhost:8080"
}
