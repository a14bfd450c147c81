variable "name" {
  description = "The service's name: 1 to 63 of a-z 0-9 _ -."
  type        = string
}

variable "command" {
  description = "The program, on the servers: a name looked up in PATH, or a path. Without args it is split as a shell splits words."
  type        = string
}

variable "args" {
  description = "The program's arguments."
  type        = list(string)
  default     = null
}

variable "env" {
  description = "The program's environment. It is kept in the state: what is secret belongs into env_wo."
  type        = map(string)
  default     = null
}

variable "env_wo" {
  description = "More of it, kept neither in the plan nor in the state."
  type        = map(string)
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "env_wo_version" {
  description = "Change it to have the values of env_wo written again."
  type        = number
  default     = null
}

variable "service" {
  description = "What else a service has; the attributes are those of ten_service. What is left out has its default."
  type = object({
    workdir          = optional(string)
    socket           = optional(string)
    health           = optional(string)
    health_interval  = optional(string)
    isolation        = optional(string)
    idle_timeout     = optional(string)
    startup_timeout  = optional(string)
    request_timeout  = optional(string)
    stop_timeout     = optional(string)
    restart          = optional(string)
    max_restarts     = optional(number)
    restart_window   = optional(string)
    backoff_base     = optional(string)
    backoff_max      = optional(string)
    memory_limit     = optional(string)
    cpu_shares       = optional(number)
    storage_quota    = optional(string)
    storage_persist  = optional(bool)
    spawn_on_request = optional(bool)
    max_instances    = optional(number)
    on_disconnect    = optional(string)
  })
  default  = {}
  nullable = false
}

variable "placement" {
  description = "Which nodes may run its instances, and which do so best; as of ten_service."
  type = object({
    strategy      = optional(string)
    spread_by     = optional(string)
    constraints   = optional(list(string))
    affinities    = optional(list(object({ match = string, weight = number })))
    anti_affinity = optional(list(string))
  })
  default = null
}

variable "fleets" {
  description = "Its fleets, by name; the attributes are those of ten_fleet."
  type = map(object({
    replicas = number
    weight   = optional(number)
    wait_for = optional(string)
    placement = optional(object({
      strategy      = optional(string)
      spread_by     = optional(string)
      constraints   = optional(list(string))
      affinities    = optional(list(object({ match = string, weight = number })))
      anti_affinity = optional(list(string))
    }))
    timeouts = optional(object({
      create = optional(string)
      read   = optional(string)
      update = optional(string)
      delete = optional(string)
    }))
  }))
  default  = {}
  nullable = false
}

variable "routes" {
  description = "Its routes, by name: hosts, paths or both. weights has the share of each fleet, by its name; without it requests go to the whole service, by the fleets' own weights."
  type = map(object({
    hosts   = optional(list(string))
    paths   = optional(list(string))
    weights = optional(map(number))
    mode    = optional(string)
    message = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for r in var.routes : alltrue([for name in keys(coalesce(r.weights, {})) : contains(keys(var.fleets), name)])])
    error_message = "routes: weights names a fleet that is not in fleets."
  }
}
