variable "nodes" {
  description = "How many servers. Any one of three may be lost; more are started and stopped when it changes."
  type        = number
  default     = 3

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 9 && floor(var.nodes) == var.nodes
    error_message = "nodes is a whole number from 1 to 9."
  }
}

variable "binary" {
  description = "The program ten: a path, or a name that is looked up in PATH."
  type        = string
  default     = "ten"
}

variable "data_dir" {
  description = "The directory for all that the servers keep. It is made, and removed at the end."
  type        = string
  default     = ".ten"

  validation {
    condition     = length(abspath(pathexpand(var.data_dir))) <= 70 && !strcontains(abspath(pathexpand(var.data_dir)), "\n")
    error_message = "data_dir is longer than 70 bytes as an absolute path: the names of sockets in it would be too long."
  }
}

variable "network" {
  description = "The first three bytes of the servers' addresses: n1 listens on 127.0.0.1, n2 on 127.0.0.2 and so on."
  type        = string
  default     = "127.0.0"

  validation {
    condition     = can(regex("^127(\\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){2}$", var.network))
    error_message = "network is three numbers such as 127.0.0: this is for one machine, and anybody else is kept out."
  }
}

variable "domain" {
  description = "The root domain. Every name below localhost leads to this machine."
  type        = string
  default     = "localhost"
}

variable "port" {
  description = "The port for the API and the programs."
  type        = number
  default     = 8080
}

variable "tls_port" {
  description = "The port for the same over TLS, which terraform init needs to get the provider from here; 0 for none."
  type        = number
  default     = 8443
}

variable "peer_port" {
  description = "The port on which servers talk to each other."
  type        = number
  default     = 7947
}

variable "gossip_port" {
  description = "The port, TCP and UDP, on which servers find each other."
  type        = number
  default     = 7946
}
