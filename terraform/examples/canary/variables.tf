variable "stable" {
  description = "Path, on the servers, of the program as it is: it listens on $PORT and answers GET /health. Default: examples/hello of this repository, which `make examples` builds."
  type        = string
  default     = null
}

variable "canary" {
  description = "Path of its next version. Default: the same program."
  type        = string
  default     = null
}

variable "canary_percent" {
  description = "How many of 100 requests the next version gets."
  type        = number
  default     = 10

  validation {
    condition     = var.canary_percent >= 0 && var.canary_percent <= 100 && floor(var.canary_percent) == var.canary_percent
    error_message = "canary_percent is a whole number from 0 to 100."
  }
}

variable "host" {
  description = "The host name that visitors use."
  type        = string
  default     = "shop.localhost"
}
