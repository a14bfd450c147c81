variable "ten_url" {
  description = "Where the machine gets the binary: an address that curl understands."
  type        = string

  validation {
    condition     = can(regex("^(https?|file)://[^'[:space:]]+$", var.ten_url))
    error_message = "ten_url is an address such as https://downloads.example.com/ten-1.0-linux-amd64."
  }
}

variable "ten_sha256" {
  description = "The SHA-256 of that binary, 64 hex digits. Another one is not installed."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-Fa-f]{64}$", var.ten_sha256))
    error_message = "ten_sha256 is 64 hex digits, as sha256sum prints them."
  }
}

variable "join" {
  description = "Whether the server joins a cluster. Without, it founds one."
  type        = bool
  default     = true
  nullable    = false
}

variable "join_token" {
  description = "A join token, which becomes part of user_data: whatever keeps that in its state keeps the token too. See join_token_wo and join_token_command."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.join_token == null || var.join
    error_message = "join_token is for a server that joins, and join is false."
  }
}

variable "join_token_wo" {
  description = "A join token, which becomes part of user_data_wo only and is kept nowhere. Usually ephemeral.ten_join_token.NAME.text, with keep = true."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "join_token_command" {
  description = "A command, run on the machine by sh, that prints a join token: one that asks the cloud's store of secrets, say."
  type        = string
  default     = null

  validation {
    condition     = var.join_token_command == null || var.join
    error_message = "join_token_command is for a server that joins, and join is false."
  }
}

variable "node_name" {
  description = "The server's name in the cluster. Left out: its host name."
  type        = string
  default     = null
}

variable "advertise" {
  description = "The address at which other servers reach it. Left out: the first that is not loopback."
  type        = string
  default     = null
}

variable "domain" {
  description = "The domain under which services are reached, the same on all servers."
  type        = string
  default     = null
}

variable "port" {
  description = "The port for the API and the programs. Left out: 8080."
  type        = number
  default     = null
}

variable "tls_port" {
  description = "The port for the same over TLS, with a certificate of the cluster's CA. Left out: none."
  type        = number
  default     = null
}

variable "tls_names" {
  description = "Further names and addresses of that certificate."
  type        = list(string)
  default     = null
}

variable "peer_port" {
  description = "The port for the other servers. Left out: 7947."
  type        = number
  default     = null
}

variable "gossip_port" {
  description = "The port, TCP and UDP, for gossip. Left out: 7946."
  type        = number
  default     = null
}

variable "region" {
  description = "Where the server is, for placement."
  type        = string
  default     = null
}

variable "zone" {
  description = "The part of the region."
  type        = string
  default     = null
}

variable "operator" {
  description = "Whose machine it is: `provider` in placement rules."
  type        = string
  default     = null
}

variable "labels" {
  description = "Further properties, for placement."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "extra_toml" {
  description = "More tables for tenement.toml, such as [service.NAME]. No secrets: the file can be read by all."
  type        = string
  default     = null
}

variable "packages" {
  description = "Packages that the install needs, as the machine's system names them."
  type        = list(string)
  default     = ["ca-certificates", "curl"]
}

variable "binary" {
  description = "Where the binary goes."
  type        = string
  default     = "/usr/local/bin/ten"

  validation {
    condition     = can(regex("^/[^'[:space:]]+$", var.binary))
    error_message = "binary is an absolute path without blanks and quotes."
  }
}

variable "config_dir" {
  description = "Where the configuration goes."
  type        = string
  default     = "/etc/tenement"

  validation {
    condition     = can(regex("^/[^'[:space:]]+$", var.config_dir))
    error_message = "config_dir is an absolute path without blanks and quotes."
  }
}

variable "data_dir" {
  description = "Where the server keeps its state and the instances their data."
  type        = string
  default     = "/var/lib/tenement"
}
