variable "live" {
  description = "Which of the two gets the visitors: \"blue\" or \"green\"."
  type        = string
  default     = "blue"

  validation {
    condition     = contains(["blue", "green"], var.live)
    error_message = "live is \"blue\" or \"green\"."
  }
}

variable "programs" {
  description = "Paths, on the servers, of the two programs: they listen on $PORT and answer GET /health. Default: examples/hello of this repository, which `make examples` builds."
  type = object({
    blue  = optional(string)
    green = optional(string)
  })
  default = {}
}

variable "replicas" {
  description = "How many instances each of the two has."
  type        = number
  default     = 2
}

variable "host" {
  description = "The host name that visitors use."
  type        = string
  default     = "site.localhost"
}

variable "address" {
  description = "Where the domain of the cluster is reached. Only the outputs use it."
  type        = string
  default     = "http://localhost:8080"
}
