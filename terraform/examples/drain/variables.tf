variable "draining" {
  description = "The names of the nodes that are to be emptied."
  type        = set(string)
  default     = []
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
